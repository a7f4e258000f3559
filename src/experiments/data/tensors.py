"""Convert arrays to the tensors of a training: rows of pixels, numbers or tokens, and their targets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
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
    return nested.each(lambda name, row: torch.ones(2, math.prod(row), dtype=getattr(torch, name)), dtype, shape)


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
    stored = nested.each(lambda part: _stored(_tensor(part, "x")), x)
    given = () if shape is None else (shape,)
    if shape is not None and not _has_parts_of(shape, stored):
        parts = nested.apply(lambda tensor: tuple(tensor.shape[1:]), stored)
        raise DataError(f"`shape` is {shape}; a row of x has the shape, or of its parts the shapes, {parts}")
    shape = nested.apply(_row_shape, stored, *given)
    shape = (1,) if shape == () and isinstance(stored, Tensor) else shape  # one of several may be a number
    return nested.apply(lambda tensor, row: tensor.reshape(len(tensor), math.prod(row)), stored, shape), shape


def _has_parts_of(shape: Any, x: Nested) -> bool:
    """Return whether there is a shape for each tensor."""
    if isinstance(x, Tensor):
        return isinstance(shape, Sequence) and all(isinstance(size, Integral) for size in shape)
    if isinstance(x, Mapping):
        return isinstance(shape, Mapping) and shape.keys() == x.keys() and all(_has_parts_of(shape[k], x[k]) for k in x)
    return isinstance(shape, Sequence) and len(shape) == len(x) and all(map(_has_parts_of, shape, x))


def _row_shape(tensor: Tensor, shape: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Return the shape of one row, which may be given; check that rows have it and are finite."""
    own = tuple(tensor.shape[1:])
    if shape is None:
        shape = own
        if len(shape) == 2 and (tensor.is_floating_point() or tensor.dtype == torch.uint8):
            shape = (1, *shape)
    size = math.prod(shape)
    if size == 0:
        raise DataError(f"x holds rows without a number, of the shape {shape}")
    if tensor[:1].numel() != size and len(tensor):
        problem = f"x has rows of {tensor[0].numel()} numbers; the shape {shape} has {size}"
        raise DataError(f"{problem}; pad rows of different lengths to one length, in a collate too")
    _finite(tensor, "x")
    require_order(own, shape)
    return tuple(shape)


def require_order(own: Sequence[int], shape: Sequence[int]) -> None:
    """Check that rows do not have the sizes of `shape` in another order; a reshape would mix up their numbers."""
    sizes, wanted = ([size for size in sizes if size > 1] for sizes in (own, shape))
    if sizes != wanted and sorted(sizes) == sorted(wanted):
        remedy = "give x with its axes in that order (np.moveaxis), channels first"
        raise DataError(f"x has rows of the shape {tuple(own)}, other than the shape {tuple(shape)}; {remedy}")


def as_targets(y: Any, *, classes: bool = False) -> Nested:
    """Return labels as int64 (n,) or, where `classes` are known, (n, places ...); real targets as float32 (n, columns).

    Whole numbers 0 and 1 in columns are several labels a row, float32 too. Of a tuple or mapping, each part keeps its
    shape, whole numbers are int64, real ones float32, truth values as they are.
    """
    if isinstance(y, tuple | Mapping):
        return nested.each(lambda part: _stored(_finite(_tensor(part, "y"), "y")), y)
    return _as_targets(_tensor(y, "y"), classes)


def _as_targets(tensor: Tensor, classes: bool) -> Tensor:
    if tensor.is_floating_point():
        return _finite(tensor, "y").float().reshape(len(tensor), -1)
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


def _finite(tensor: Tensor, name: str) -> Tensor:
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise DataError(f"{name} holds values that are not finite")
    return tensor


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
    if isinstance(values, np.ndarray) and (not values.flags.writeable or min(values.strides, default=0) < 0):
        values = values.copy()  # torch warns of memory that it could write to, and takes no array that is turned round
    try:
        return torch.stack([*map(torch.as_tensor, values)]) if isinstance(values, list) else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        text = next((value for value in np.asarray(values, dtype=object).flat if isinstance(value, str)), None)
        if text is not None and name == "y":
            remedy = "labels, y = np.unique(y, return_inverse=True) numbers it, and `labels` takes the names"
            raise DataError(f"y holds text, such as {text!r:.40}; {remedy}") from error
        raise DataError(f"{name} should be numbers, of one shape in all rows: {first_line(error)}") from error
