"""Splits of rows and targets in several parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from experiments.data.splits import Splits
from experiments.errors import DataError

HEAT = np.random.default_rng(0).random((6, 2, 4, 4)).astype("float32")


def splits(x: Any, y: Any, **given: Any) -> Splits:
    return Splits.of(train=(x, y), valid=(x, y), **given)


def test_each_part_of_the_targets_keeps_its_shape_and_kind() -> None:
    y = {"heat": HEAT, "depth": HEAT[:, 0, 0, 0].astype("float64"), "seen": HEAT[:, :, 0] > 0.5, "kind": np.arange(6)}
    _, found = splits(HEAT, y).train.tensors
    shapes = {name: (part.dtype, tuple(part.shape)) for name, part in found.items()}
    assert shapes == {
        "heat": (torch.float32, (6, 2, 4, 4)),
        "depth": (torch.float32, (6,)),
        "seen": (torch.bool, (6, 2, 4)),
        "kind": (torch.int64, (6,)),
    }


def test_one_of_several_inputs_may_be_a_number_a_row() -> None:
    assert splits((HEAT, np.arange(6)), np.arange(6)).spec.shape == ((2, 4, 4), ())


def test_of_several_targets_the_stated_classes_are_the_outputs() -> None:
    assert splits(HEAT, (np.arange(6) % 3, HEAT[:, 0, 0]), classes=3).spec.outputs == 3


@pytest.mark.parametrize("shape", [(12,), ((4,), (5,), (6,)), {"a": (4,)}, ((32,), 5)])
def test_a_shape_of_other_parts_than_x_is_told_with_those_of_x(shape: Any) -> None:
    expected = r"^`shape` is .*; a row of x has the shape, or of its parts the shapes, \(\(2, 4, 4\), \(3,\)\)$"
    with pytest.raises(DataError, match=expected):
        splits((HEAT, np.ones((6, 3))), np.arange(6), shape=shape)


def test_targets_of_other_kinds_in_the_splits_are_told() -> None:
    with pytest.raises(DataError, match=r"different targets: train int64 \(6,\), valid float32 \(6, 1\); give y in"):
        Splits.of(train=(HEAT, np.arange(6)), valid=(HEAT, np.arange(6) / 2))
