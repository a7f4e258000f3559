"""Streams: an IterableDataset with a stated number of rows a pass."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from experiments.components.loaders import dataloader
from experiments.data.batches import Order
from experiments.data.splits import Splits
from experiments.errors import ConfigError, DataError


class Drawn(IterableDataset[Any]):
    """Rows that torch and numpy draw."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most

    def __iter__(self) -> Iterator[Any]:
        read = 0
        while self.most is None or read < self.most:
            x = torch.randn(4)
            yield x, x.sum() + np.random.rand()
            read += 1


def splits(**given: Any) -> Splits:
    return Splits.of(**({"train": Drawn(), "valid": Drawn(), "rows": {"train": 22, "valid": 8}} | given))


def passed(data: Splits, epoch: int, batch_size: int = 5) -> list[torch.Tensor]:
    split = data.train.given_as("flat")
    order = Order(len(split), shuffle=True, seed=3)
    order.epoch = epoch
    return [xb for xb, _ in dataloader(split, batch_size, order, (4,))]


def test_a_pass_has_the_stated_rows_in_batches() -> None:
    assert [len(xb) for xb in passed(splits(), 0)] == [5, 5, 5, 5, 2]


def test_a_pass_is_the_same_whatever_was_drawn_before_and_another_each_epoch() -> None:
    first = torch.cat(passed(splits(), 1))
    torch.manual_seed(99)
    assert torch.equal(first, torch.cat(passed(splits(), 1)))
    assert not torch.equal(first, torch.cat(passed(splits(), 2)))


def test_a_pass_leaves_the_noise_stream_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    passed(splits(), 0)
    assert torch.equal(torch.rand(3), expected)


def test_the_spec_is_that_of_the_first_row() -> None:
    spec = splits().spec
    assert (spec.shape, spec.outputs, spec.classes, spec.sizes) == ((4,), 1, False, {"train": 22, "valid": 8})


def test_the_same_stream_has_the_same_digest() -> None:
    assert splits().spec.digest == splits().spec.digest


def test_a_stream_that_ends_early_is_told() -> None:
    with pytest.raises(DataError, match="ended after 7 rows; a pass has 22"):
        passed(splits(train=Drawn(7)), 0)


def test_a_stream_without_a_number_of_rows_is_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match='the train split is a stream; .* rows={"train": 1000'):
        splits(rows={"valid": 8})


def test_several_readers_of_one_stream_are_refused() -> None:
    split = splits().train.given_as("flat")
    with pytest.raises(ConfigError, match="each worker would read the whole stream"):
        dataloader(split, 5, Order(22, shuffle=True, seed=0), (4,), num_workers=2)


def test_a_number_of_rows_without_a_stream_is_refused() -> None:
    x, y = torch.zeros(4, 2), torch.zeros(4)
    with pytest.raises(DataError, match="no split is an IterableDataset"):
        Splits.of(train=(x, y), valid=(x, y), rows={"train": 2})


def test_named_inputs_of_other_shapes_are_told() -> None:
    y = torch.zeros(4)
    with pytest.raises(DataError, match="rows of different shapes"):
        Splits.of(train=({"a": torch.zeros(4, 2)}, y), valid=({"a": torch.zeros(4, 3)}, y))


def test_a_stream_that_ends_within_a_training_is_no_refusal_since_the_run_has_begun(workplace: Path) -> None:
    write = """
import torch, experiments
from torch.utils.data import IterableDataset

class Short(IterableDataset):
    def __iter__(self):
        return ((torch.ones(3), torch.ones(1)) for _ in range(80))

@experiments.register.dataset("ends_early")
def ends_early():
    return {"train": Short(), "valid": Short(), "rows": {"train": 100, "valid": 10}}
"""
    (workplace / "own.py").write_text(write, encoding="utf-8")
    settings = ["dataset=ends_early", "loader=dataloader", "model=mlp", "loss=mse", "metrics=none", "tracking=none"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *settings, "loader.batch_size=10", "optim.lr=0.1"],
        capture_output=True,
        text=True,
        env={**os.environ, "EXPERIMENTS_COMPONENTS": "own.py"},
    )
    assert done.returncode == 1, done
    assert done.stderr.splitlines()[-1] == "error: the stream ended after 80 rows; a pass has 100 by its `rows`"
