"""A batch's x, y or predictions: a tensor, or a tuple or mapping of tensors, each with a row for each of the batch."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Nested = Any  # Tensor | tuple[Nested, ...] | Mapping[str, Nested]


def apply(function: Callable[..., Any], value: Nested, *others: Nested) -> Nested:
    """Return the same structure with `function` of each tensor, and of what is at its place in `others`.

    What is no tensor, such as a None among a model's outputs, stays as it is.
    """
    if isinstance(value, Tensor):
        return function(value, *others)
    if isinstance(value, Mapping):
        return {key: apply(function, part, *(other[key] for other in others)) for key, part in value.items()}
    if isinstance(value, tuple | list):
        parts = [apply(function, *part) for part in zip(value, *others, strict=True)]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def each(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """Return the same structure with `function` of each part that is no tuple or mapping, and of `others`'."""
    if isinstance(value, Mapping):
        return {key: each(function, part, *(other[key] for other in others)) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(each(function, *parts) for parts in zip(value, *others, strict=True))
    return function(value, *others)


def leaves(value: Nested) -> list[Tensor]:
    """Return the tensors, in order."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [leaf for part in parts for leaf in leaves(part)]


def rows(value: Nested) -> int:
    """Return the number of rows, which all tensors share."""
    return value.shape[0] if isinstance(value, Tensor) else leaves(value)[0].shape[0]


def split(value: Nested, size: int) -> Iterator[Nested]:
    """Yield consecutive parts of `size` rows; the last may have fewer."""
    if isinstance(value, Tensor):
        yield from torch.split(value, size)
        return
    for start in range(0, rows(value), size):
        yield apply(operator.itemgetter(slice(start, start + size)), value)


def turned(items: Sequence[Any]) -> Any:
    """Return items of one structure as that structure of lists: [(1, 2), (3, 4)] as ([1, 3], [2, 4])."""
    first = items[0]
    if isinstance(first, Mapping):
        return {key: turned([item[key] for item in items]) for key in first}
    if isinstance(first, tuple):
        return tuple(turned(part) for part in zip(*items, strict=True))
    return list(items)


def tuples(value: Any) -> Any:
    """Return lists of tensors as tuples, which torch's own collate makes lists."""
    if isinstance(value, Mapping):
        return {key: tuples(part) for key, part in value.items()}
    if isinstance(value, tuple) or (isinstance(value, list) and value and isinstance(value[0], Tensor | list | dict)):
        return tuple(map(tuples, value))
    return value
