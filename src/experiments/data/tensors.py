"""Arrays as the tensors that a training takes: rows of pixels or numbers, labels or real targets."""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from experiments.errors import DataError

Shape = tuple[int, int, int]


def is_arrays(dataset: Any) -> TypeGuard[TensorDataset]:
    """Whether a dataset is nothing but arrays x and y; a class of one's own may give other rows than its tensors'."""
    return type(dataset) is TensorDataset and len(dataset.tensors) == 2


def to_float(x: Tensor) -> Tensor:
    """Float32 pixels: bytes divided by 256, which is exact; other numbers as they are."""
    return x.float().div_(256) if x.dtype == torch.uint8 else x.float()


def as_rows(x: Any, shape: Shape | None = None) -> tuple[Tensor, Shape]:
    """Flat rows (n, features), uint8 or float32, and the shape of one picture."""
    tensor = torch.as_tensor(x)
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
        raise DataError(f"x holds pictures without a pixel, of the shape {shape}")
    if tensor[:1].numel() != features and len(tensor):
        raise DataError(f"x has rows of {tensor[0].numel()} numbers; the shape {shape} has {features}")
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise DataError("x holds values that are not finite")
    return tensor.reshape(len(tensor), features), (channels, height, width)


def as_targets(y: Any) -> Tensor:
    """Class labels as int64 (n,), real targets as float32 (n, columns)."""
    if isinstance(y, list):
        y = torch.stack([torch.as_tensor(value) for value in y])
    tensor = torch.as_tensor(y)
    if tensor.is_floating_point():
        if not bool(tensor.isfinite().all()):
            raise DataError("y holds values that are not finite")
        return tensor.float().reshape(len(tensor), -1)
    if tensor.ndim != 1:
        raise DataError(f"y holds whole numbers of the shape {tuple(tensor.shape)}; labels are one number a row")
    return tensor.long()
