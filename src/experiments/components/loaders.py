"""Loaders: `(split, batch_size, order, shape)` gives an iterable of batches (xb, yb), with a length.

`shape` is the shape of one input as the model takes it. Given the same order, all loaders yield the same batches,
bit for bit: the first four are the tutorial's, `in_memory` is the default outside the stages. `plain` at the
registration is the loader as a script of one's own has it, `views=True` says that its batches may be views of the rows,
`reads_once=True` that it reads each item of a dataset once, and `on_device=True` that it has `to(device)` and keeps the
rows there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from experiments.components import script_loaders
from experiments.config.registry import register
from experiments.data.batches import Order
from experiments.data.splits import Split
from experiments.data.tensors import as_targets, is_arrays, to_float
from experiments.seeds import epoch_seed

Batch = tuple[Tensor, Tensor]
Shape = tuple[int, ...]

# How much `in_memory` gathers at once, as float32: what stays in a core's cache. It changes no bit of any batch.
GATHERED_BYTES = 2**21


class Passes:
    """A pass over x and y is what a plain loader gives for them in the order's order."""

    def __init__(
        self, batches: Callable[..., Iterator[Batch]], x: Tensor, y: Tensor, batch_size: int, order: Order
    ) -> None:
        self.batches, self.x, self.y = batches, x, y
        self.batch_size, self.order = batch_size, order

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        indices = self.order.indices()
        batches = self.batches(self.x, self.y, self.batch_size, indices)
        # Slices are views, and what changes a batch in place would change the data.
        return batches if indices is not None else ((xb.clone(), yb.clone()) for xb, yb in batches)


class Wrapped:
    """Stage 12: any loader, with a function applied to each of its batches."""

    def __init__(self, loader: Any, function: Callable[[Tensor, Tensor], Batch]) -> None:
        self.loader, self.function = loader, function

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            yield self.function(*batch)


class Rows(TensorDataset):
    """A TensorDataset that gives torch's DataLoader the rows of a batch together, instead of one by one to be stacked.

    Stacking rows is some 10 µs of Python a row, copying them far less; the bits are the same.
    """

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        """The rows with these indices, of each tensor; DataLoader calls it where a dataset has it."""
        chosen = torch.tensor(indices)
        return tuple(tensor.index_select(0, chosen) for tensor in self.tensors)


class OrderedLoader(DataLoader[Any]):
    """Torch's DataLoader in an order's order, its workers' seed a pure function of the order's seed and epoch.

    A pass of a DataLoader draws its workers' seed from its generator. With one of its own, set anew each time, the
    noise stream stays untouched, and a training that goes on in the middle gives its workers what they had.
    """

    def __init__(self, dataset: Any, batch_size: int, order: Order, num_workers: int) -> None:
        self.order = order
        collate = _as_they_are if isinstance(dataset, Rows) else None
        generator = torch.Generator()
        super().__init__(
            dataset, batch_size, sampler=order, num_workers=num_workers, collate_fn=collate, generator=generator
        )

    def __iter__(self) -> Any:
        self.generator.manual_seed(epoch_seed(self.order.seed, self.order.epoch))
        return super().__iter__()


class InMemory:
    """Many batches gathered and converted at once, then sliced: no per-row Python.

    The tensors stay as they are stored (bytes where pixels are bytes) and may lie on any device.
    """

    def __init__(self, x: Tensor, y: Tensor, batch_size: int, order: Order, shape: Shape) -> None:
        self.x, self.y = x, y
        self.batch_size, self.order, self.shape = batch_size, order, shape

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def to(self, device: torch.device) -> None:
        """Move the data to where the batches are wanted, once."""
        self.x, self.y = self.x.to(device), self.y.to(device)

    def __iter__(self) -> Iterator[Batch]:
        indices = self.order.indices()
        if indices is not None:
            indices = indices.to(self.x.device)
        batches = max(1, GATHERED_BYTES // (4 * math.prod(self.shape) * self.batch_size))
        for start in range(0, len(self.order), batches * self.batch_size):
            part = slice(start, start + batches * self.batch_size)
            # index_select copies row by row, several times as fast as x[indices], which goes number by number
            x, y = (t[part].clone() if indices is None else t.index_select(0, indices[part]) for t in (self.x, self.y))
            x = to_float(x).view(-1, *self.shape)
            yield from zip(torch.split(x, self.batch_size), torch.split(y, self.batch_size), strict=True)


@register.loader("slices", plain=script_loaders.slices, views=True, reads_once=True)
def slices(split: Split, batch_size: int, order: Order, shape: Shape) -> Passes:
    """Stage 1: x[start:end], y[start:end]."""
    x, y = split.floats()
    return Passes(script_loaders.slices, x.view(-1, *shape), y, batch_size, order)


@register.loader("tensor_dataset", plain=script_loaders.tensor_dataset, views=True, reads_once=True)
def tensor_dataset(split: Split, batch_size: int, order: Order, shape: Shape) -> Passes:
    """Stage 6: one slice of a TensorDataset gives both."""
    x, y = split.floats()
    return Passes(script_loaders.tensor_dataset, x.view(-1, *shape), y, batch_size, order)


@register.loader("dataloader", plain=script_loaders.dataloader)
def dataloader(
    split: Split, batch_size: int, order: Order, shape: Shape, *, num_workers: Annotated[int, Ge(0)] = 0
) -> Any:
    """Stage 7: torch's DataLoader over a TensorDataset, or over the split's own map-style dataset."""
    if not is_arrays(split.dataset):
        return Wrapped(OrderedLoader(split.dataset, batch_size, order, num_workers), _into(shape))
    x, y = split.floats()
    return OrderedLoader(Rows(x.view(-1, *shape), y), batch_size, order, num_workers)


@register.loader("wrapped_dataloader", plain=script_loaders.wrapped_dataloader)
def wrapped_dataloader(
    split: Split, batch_size: int, order: Order, shape: Shape, *, num_workers: Annotated[int, Ge(0)] = 0
) -> Wrapped:
    """Stage 12: rows stay as the data has them, and each batch is brought into the model's shape."""
    dataset = split.dataset
    if is_arrays(dataset):
        dataset = Rows(*split.floats())
    return Wrapped(OrderedLoader(dataset, batch_size, order, num_workers), _into(shape))


@register.loader("in_memory", plain=script_loaders.slices, views=True, reads_once=True, on_device=True)
def in_memory(split: Split, batch_size: int, order: Order, shape: Shape) -> InMemory:
    """Every row in memory, on the device; a map-style dataset's items are each read once."""
    return InMemory(*split.tensors, batch_size, order, shape)


def _as_they_are(batch: Any) -> Any:
    """A batch of `Rows`, which needs no stacking; a function with a name, for workers that are spawned."""
    return batch


def _into(shape: Shape) -> Callable[[Tensor, Tensor], Batch]:
    def preprocess(xb: Tensor, yb: Tensor) -> Batch:
        return to_float(xb).view(-1, *shape), as_targets(yb)

    return preprocess
