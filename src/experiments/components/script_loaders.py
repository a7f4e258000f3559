"""Loaders as one writes them in a script of one's own: `(x, y, batch_size, order)` gives one epoch's batches.

x (n, ...) float32, y (n, ...), and order the rows' order, int64 (n,), or None for as they lie. Each gives the batches
of the registered loader that names it as its `plain` form, bit for bit; an exported script has its source. Where
the training `draws_noise`, for dropout say, a DataLoader gets a generator of its own, for it draws from it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

Batch = tuple[Tensor, Tensor]


def slices(x: Tensor, y: Tensor, batch_size: int, order: Tensor | None = None) -> Iterator[Batch]:
    """Rows start .. end of x and y."""
    for start in range(0, len(x), batch_size):
        end = start + batch_size
        rows = slice(start, end) if order is None else order[start:end]
        yield x[rows], y[rows]


def tensor_dataset(x: Tensor, y: Tensor, batch_size: int, order: Tensor | None = None) -> Iterator[Batch]:
    """One slice of a TensorDataset gives both."""
    dataset = TensorDataset(x, y)
    for start in range(0, len(x), batch_size):
        end = start + batch_size
        rows = slice(start, end) if order is None else order[start:end]
        yield dataset[rows]


def dataloader(
    x: Tensor, y: Tensor, batch_size: int, order: Tensor | None = None, *, draws_noise: bool = True
) -> Iterable[Batch]:
    """A DataLoader makes the batches from a TensorDataset."""
    return DataLoader(
        TensorDataset(x, y), batch_size, sampler=order, generator=torch.Generator() if draws_noise else None
    )


class WrappedDataLoader:
    """Applies a function to each batch of a loader."""

    def __init__(self, loader: Iterable[Batch], function: Callable[[Tensor, Tensor], Batch]) -> None:
        self.loader, self.function = loader, function

    def __iter__(self) -> Iterator[Batch]:
        """The batches, each as the function gives it."""
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
    """A DataLoader whose batches are brought into the model's shape."""

    def preprocess(xb: Tensor, yb: Tensor) -> Batch:
        return xb.view(-1, *shape), yb

    loader = DataLoader(
        TensorDataset(x, y), batch_size, sampler=order, generator=torch.Generator() if draws_noise else None
    )
    return WrappedDataLoader(loader, preprocess)


class Rows:
    """What a loader of one's own is handed as its split."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.dataset, self.tensors = TensorDataset(x, y), (x, y)

    def __len__(self) -> int:
        return len(self.dataset)

    def floats(self) -> Batch:
        """X and y; x is float32 already."""
        return self.tensors


class RowOrder:
    """What a loader of one's own is handed as its order."""

    def __init__(self, size: int, order: Tensor | None) -> None:
        self.size, self.order = size, order

    def indices(self) -> Tensor | None:
        """The order, or None for as they lie."""
        return self.order

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.size) if self.order is None else self.order.tolist())

    def __len__(self) -> int:
        return self.size
