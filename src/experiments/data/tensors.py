"""Convert arrays to the tensors of a training: rows of pixels or numbers, labels or real targets."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from experiments.errors import DataError, first_line

Shape = tuple[int, int, int]


def is_arrays(dataset: Any) -> TypeGuard[TensorDataset]:
    """Return whether a dataset is just arrays x and y; a subclass may give other rows than its tensors have."""
    return type(dataset) is TensorDataset and len(dataset.tensors) == 2


def to_float(x: Tensor) -> Tensor:
    """Return float32: bytes divided by 256, which is exact; other numbers unchanged."""
    return x.float().div_(256) if x.dtype == torch.uint8 else x.float()


def as_rows(x: Any, shape: Shape | None = None) -> tuple[Tensor, Shape]:
    """Return flat rows (n, features), uint8 or float32, and the shape of one image."""
    tensor = _tensor(x, "x")
    if tensor.dtype != torch.uint8:
        tensor = tensor.float()
    if shape is None:
        if tensor.ndim not in (3, 4):
            raise DataError(
                f"x has the shape {tuple(tensor.shape)}; it should be (n, height, width) or "
                "(n, channels, height, width), or `shape` be given"
            )
        rows = tensor.shape[1:]
        shape = (1, rows[0], rows[1]) if len(rows) == 2 else (rows[0], rows[1], rows[2])
    channels, height, width = shape
    features = channels * height * width
    if features == 0:
        raise DataError(f"x holds images without a pixel, of the shape {shape}")
    if tensor[:1].numel() != features and len(tensor):
        raise DataError(f"x has rows of {tensor[0].numel()} numbers; the shape {shape} has {features}")
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise DataError("x holds values that are not finite")
    return tensor.reshape(len(tensor), features), (channels, height, width)


def as_targets(y: Any) -> Tensor:
    """Return class labels as int64 (n,), real targets as float32 (n, columns)."""
    tensor = _tensor(y, "y")
    if tensor.is_floating_point():
        if not bool(tensor.isfinite().all()):
            raise DataError("y holds values that are not finite")
        return tensor.float().reshape(len(tensor), -1)
    if tensor.ndim != 1:
        raise DataError(f"y holds whole numbers of the shape {tuple(tensor.shape)}; labels are one number a row")
    return tensor.long()


def _tensor(values: Any, name: str) -> Tensor:
    try:
        return torch.stack([*map(torch.as_tensor, values)]) if isinstance(values, list) else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        names = " (`labels` has their names)" if name == "y" else ""
        raise DataError(f"{name} should be numbers{names}, of one shape in all rows: {first_line(error)}") from error
