"""Convert arrays to the tensors of a training: rows of pixels, numbers or tokens, and their targets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from experiments.data import nested
from experiments.data.nested import Nested
from experiments.errors import DataError, first_line

Shape = Any  # of one row: tuple[int, ...], or a tuple or mapping of such
IGNORED = -100  # a place that torch's cross_entropy leaves out


class Rows(Dataset[Any]):
    """Rows of nested x and y; torch's DataLoader gets those of a batch together.

    Stacking single rows takes some 10 µs of Python a row, copying them far less; the bits are the same.
    """

    def __init__(self, x: Nested, y: Nested) -> None:
        self.tensors = (x, y)

    def __len__(self) -> int:
        return nested.rows(self.tensors[0])

    def __getitem__(self, index: int) -> tuple[Nested, Nested]:
        x, y = nested.apply(lambda tensor: tensor[index], self.tensors)
        return x, y

    def __getitems__(self, indices: list[int]) -> tuple[Nested, ...]:
        """Return the rows with these indices; DataLoader calls it where a dataset has it."""
        chosen = torch.tensor(indices)
        rows: tuple[Nested, ...] = nested.apply(lambda tensor: tensor.index_select(0, chosen), self.tensors)
        return rows


def is_arrays(dataset: Any) -> TypeGuard[TensorDataset]:
    """Return whether a dataset is just arrays x and y; a subclass may give other rows than its tensors have."""
    return type(dataset) in (TensorDataset, Rows) and len(dataset.tensors) == 2


def is_image(shape: tuple[int, ...]) -> bool:
    """Return whether rows are images (channels, height, width); one line of numbers is none."""
    return len(shape) == 3 and shape[1] > 1


def to_float(x: Tensor) -> Tensor:
    """Return float32: bytes divided by 256, which is exact; other numbers unchanged."""
    return x.float().div_(256) if x.dtype == torch.uint8 else x.float()


def as_input(x: Nested, shape: Shape, kind: str) -> Nested:
    """Return stored rows in the type that a model takes, by its `input`: image, flat, tokens or any.

    Only an image's bytes are pixels, and divided by 256. Other integers become float32 for an image or a flat row only.
    """

    def typed(tensor: Tensor, row: tuple[int, ...]) -> Tensor:
        if kind != "tokens" and is_image(row) and tensor.dtype == torch.uint8:
            return to_float(tensor)
        if kind in ("image", "flat"):
            return tensor.float()
        return tensor.long() if tensor.dtype == torch.uint8 else tensor

    return nested.apply(typed, x, shape)


def ones(shape: Shape, dtype: Any) -> Nested:
    """Return two rows of ones as a dataset of this shape and dtype, or of several, stores them."""
    if isinstance(dtype, Mapping):
        return {key: ones(shape[key], part) for key, part in dtype.items()}
    if isinstance(dtype, tuple):
        return tuple(map(ones, shape, dtype))
    return torch.ones(2, math.prod(shape), dtype=getattr(torch, dtype))


def viewed(x: Nested, shape: Shape) -> Nested:
    """Return flat rows in the shape of each."""
    return nested.apply(lambda tensor, row: tensor.view(-1, *row), x, shape)


def features(shape: Shape) -> int:
    """Return how many numbers a row has."""
    if isinstance(shape, Mapping):
        shape = tuple(shape.values())
    return math.prod(shape) if all(isinstance(size, int) for size in shape) else sum(map(features, shape))


def as_rows(x: Any, shape: Shape | None = None) -> tuple[Nested, Shape]:
    """Return flat rows (n, features), uint8, int64, bool or float32, and the shape of one; of each, if x has several.

    Floats or bytes (n, height, width) are images of one channel, unless `shape` says another.
    """
    if isinstance(x, Mapping):
        parts = {key: as_rows(part, shape and shape[key]) for key, part in x.items()}
        return {key: rows for key, (rows, _) in parts.items()}, {key: row for key, (_, row) in parts.items()}
    if isinstance(x, tuple):
        several = [as_rows(part, shape and shape[place]) for place, part in enumerate(x)]
        return tuple(rows for rows, _ in several), tuple(row for _, row in several)
    tensor = _stored(_tensor(x, "x"))
    if shape is None:
        shape = tuple(tensor.shape[1:]) or (1,)
        if len(shape) == 2 and (tensor.is_floating_point() or tensor.dtype == torch.uint8):
            shape = (1, *shape)
    size = math.prod(shape)
    if size == 0:
        raise DataError(f"x holds rows without a number, of the shape {shape}")
    if tensor[:1].numel() != size and len(tensor):
        raise DataError(f"x has rows of {tensor[0].numel()} numbers; the shape {shape} has {size}")
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise DataError("x holds values that are not finite")
    return tensor.reshape(len(tensor), size), tuple(shape)


def as_targets(y: Any, *, classes: bool = False) -> Nested:
    """Return labels as int64 (n,) or, where `classes` are known, (n, places ...); real targets as float32 (n, columns).

    Whole numbers 0 and 1 in columns are several labels a row, float32 too. Parts are converted one by one.
    """
    if isinstance(y, Mapping):
        return {key: as_targets(part, classes=classes) for key, part in y.items()}
    if isinstance(y, tuple):
        return tuple(as_targets(part, classes=classes) for part in y)
    tensor = _tensor(y, "y")
    if tensor.is_floating_point():
        if not bool(tensor.isfinite().all()):
            raise DataError("y holds values that are not finite")
        return tensor.float().reshape(len(tensor), -1)
    if tensor.ndim == 2 and tensor.shape[1] == 1 and not classes:
        tensor = tensor[:, 0]
    if tensor.ndim == 1 or classes:
        return tensor.long()
    if tensor.ndim == 2 and bool(((tensor == 0) | (tensor == 1)).all()):
        return tensor.float()
    raise DataError(
        f"y holds whole numbers of the shape {tuple(tensor.shape)}; labels are one a row, or one for each place with "
        "`classes`; several labels a row are columns of 0 and 1; real targets are floats"
    )


def _stored(tensor: Tensor) -> Tensor:
    """Return bytes and truth values as they are, other whole numbers as int64, real ones as float32."""
    if tensor.is_complex():
        raise DataError("x holds complex numbers; give their parts, as torch.view_as_real does")
    if tensor.dtype in (torch.uint8, torch.bool):
        return tensor
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def _tensor(values: Any, name: str) -> Tensor:
    if hasattr(values, "to_numpy"):  # a data frame or a column of one
        values = values.to_numpy()
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch warns of memory that it could write to
    try:
        return torch.stack([*map(torch.as_tensor, values)]) if isinstance(values, list) else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        text = next((value for value in np.asarray(values, dtype=object).flat if isinstance(value, str)), None)
        if text is not None and name == "y":
            remedy = "labels, y = np.unique(y, return_inverse=True) numbers it, and `labels` takes the names"
            raise DataError(f"y holds text, such as {text!r:.40}; {remedy}") from error
        raise DataError(f"{name} should be numbers, of one shape in all rows: {first_line(error)}") from error
