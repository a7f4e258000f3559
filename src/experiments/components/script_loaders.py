"""Loaders as in a plain script: `(x, y, batch_size, order)` returns one epoch's batches.

x (n, ...) is float32, y (n, ...), order int64 (n,), None for the stored order. Each gives the same batches, bit for
bit, as the registered loader that names it as its `plain` form; an exported script contains its source. Where the
training `draws_noise`, such as for dropout, a DataLoader gets a separate generator, since it draws numbers as well.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from experiments.data.nested import Nested, apply, leaves

Batch = tuple[Tensor, Tensor]


def slices(x: Tensor, y: Tensor, batch_size: int, order: Tensor | None = None) -> Iterator[Batch]:
    """Slice x and y."""
    for start in range(0, len(x), batch_size):
        end = start + batch_size
        rows = slice(start, end) if order is None else order[start:end]
        yield x[rows], y[rows]


def tensor_dataset(x: Tensor, y: Tensor, batch_size: int, order: Tensor | None = None) -> Iterator[Batch]:
    """Slice a TensorDataset, which gives both."""
    dataset = TensorDataset(x, y)
    for start in range(0, len(x), batch_size):
        end = start + batch_size
        rows = slice(start, end) if order is None else order[start:end]
        yield dataset[rows]


def dataloader(
    x: Tensor, y: Tensor, batch_size: int, order: Tensor | None = None, *, draws_noise: bool = True
) -> Iterable[Batch]:
    """Return a DataLoader over a TensorDataset."""
    return DataLoader(
        TensorDataset(x, y), batch_size, sampler=order, generator=torch.Generator() if draws_noise else None
    )


def nested_slices(x: Nested, y: Nested, batch_size: int, order: Tensor | None = None) -> Iterator[Nested]:
    """Slice each tensor of x and y."""
    for start in range(0, len(leaves(x)[0]), batch_size):
        end = start + batch_size
        rows = slice(start, end) if order is None else order[start:end]
        yield apply(operator.itemgetter(rows), (x, y))


class WrappedDataLoader:
    """A loader with a function applied to each of its batches."""

    def __init__(self, loader: Any, function: Callable[[Tensor, Tensor], Batch]) -> None:
        self.loader, self.function = loader, function

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            yield self.function(*batch)


def wrapped_dataloader(
    x: Tensor,
    y: Tensor,
    batch_size: int,
    order: Tensor | None = None,
    *,
    shape: tuple[int, ...],
    draws_noise: bool = True,
) -> Iterable[Batch]:
    """Return a DataLoader whose batches have the model's shape."""

    def preprocess(xb: Tensor, yb: Tensor) -> Batch:
        return xb.view(-1, *shape), yb

    loader = DataLoader(
        TensorDataset(x, y), batch_size, sampler=order, generator=torch.Generator() if draws_noise else None
    )
    return WrappedDataLoader(loader, preprocess)


class Rows:
    """The split that a user's loader gets in a script."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.dataset, self.tensors = TensorDataset(x, y), (x, y)

    def __len__(self) -> int:
        return len(self.dataset)

    def floats(self) -> Batch:
        """Return x and y; a byte is a pixel value times 256."""
        x, y = self.tensors
        return (x.float() / 256 if x.dtype == torch.uint8 else x), y
