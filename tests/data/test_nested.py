"""Tuples and mappings of tensors."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import pytest
import torch

from experiments.data import nested

A, B = torch.arange(6).reshape(3, 2), torch.arange(3.0)
Pair = namedtuple("Pair", ["first", "second"])


@pytest.mark.parametrize("value", [A, (A, B), {"a": A, "b": (B, A)}, Pair(A, B), [A, B], OrderedDict(a=A)])
def test_a_function_is_applied_to_each_tensor(value: nested.Nested) -> None:
    doubled = nested.apply(lambda tensor: tensor * 2, value)
    pairs = zip(nested.leaves(doubled), nested.leaves(value), strict=True)
    assert all(torch.equal(two, one * 2) for two, one in pairs)


def test_what_is_no_tensor_stays() -> None:
    assert nested.apply(torch.neg, {"a": A, "hidden": None})["hidden"] is None


def test_a_named_tuple_keeps_its_names() -> None:
    assert torch.equal(nested.apply(torch.neg, Pair(A, B)).second, -B)


@pytest.mark.parametrize("value", [A, {"a": A, "b": B}])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_parts_have_all_rows_in_order(value: nested.Nested, size: int) -> None:
    parts = list(nested.split(value, size))
    for place, leaf in enumerate(nested.leaves(value)):
        assert torch.equal(torch.cat([nested.leaves(part)[place] for part in parts]), leaf)
    assert [nested.rows(part) for part in parts] == [min(size, 3 - start) for start in range(0, 3, size)]


def test_items_are_turned_into_columns() -> None:
    items = [((1, {"t": 2}), 3), ((4, {"t": 5}), 6)]
    assert nested.turned(items) == (([1, 4], {"t": [2, 5]}), [3, 6])
