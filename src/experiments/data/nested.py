"""A batch's x, y or predictions: a tensor, or a tuple or mapping of tensors, each with a row for each of the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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


def leaves(value: Nested) -> list[Tensor]:
    """Return the tensors, in order."""
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [leaf for part in parts for leaf in leaves(part)]


def rows(value: Nested) -> int:
    """Return the number of rows, which all tensors share."""
    return value.shape[0] if isinstance(value, Tensor) else leaves(value)[0].shape[0]
