"""Loaders: `(split, batch_size, order, shape)` returns an iterable of batches (xb, yb), with a length.

`shape` is that of one input as the model takes it. In the same order, all loaders yield the same batches, bit for bit:
the first four are the tutorial's, `in_memory` is the default outside the stages. A loader declares at its registration:
`plain`, its form in a plain script; `views=True`, its batches may be views of the rows; `reads_once=True`, it reads
each item of a dataset once; `on_device=True`, it has `to(device)` and keeps the rows there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

# How much `in_memory` gathers at once, as float32: the size of a core's cache. It changes no bit of any batch.
GATHERED_BYTES = 2**21


class Wrapped(script_loaders.WrappedDataLoader):
    """The script's wrapped loader, with the length that a run needs."""

    def __len__(self) -> int:
        return len(self.loader)


@dataclass(eq=False)
class Passes:
    """Each pass over x and y gives the batches of a plain loader, in the order's order."""

    batches: Callable[..., Iterator[Batch]]
    x: Tensor
    y: Tensor
    batch_size: int
    order: Order

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        indices = self.order.indices()
        batches = self.batches(self.x, self.y, self.batch_size, indices)
        # Slices are views, and a change of a batch in place would change the data.
        return batches if indices is not None else ((xb.clone(), yb.clone()) for xb, yb in batches)


class Rows(TensorDataset):
    """A TensorDataset that gives torch's DataLoader the rows of a batch together.

    Stacking single rows takes some 10 µs of Python a row, copying them far less; the bits are the same.
    """

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        """Return the rows with these indices, of each tensor; DataLoader calls it where a dataset has it."""
        chosen = torch.tensor(indices)
        return tuple(tensor.index_select(0, chosen) for tensor in self.tensors)


class OrderedLoader(DataLoader[Any]):
    """Torch's DataLoader in an order's order, its workers' seed a pure function of the order's seed and epoch.

    A pass draws its workers' seed from the loader's generator. A separate one, seeded for each pass, leaves the noise
    stream unchanged, and gives a resumed training's workers the same seeds.
    """

    def __init__(self, dataset: Any, batch_size: int, order: Order, num_workers: int) -> None:
        self.order = order
        super().__init__(
            dataset,
            batch_size,
            sampler=order,
            num_workers=num_workers,
            collate_fn=_unchanged if isinstance(dataset, Rows) else None,
            generator=torch.Generator(),
        )

    def __iter__(self) -> Any:
        self.generator.manual_seed(epoch_seed(self.order.seed, self.order.epoch))
        return super().__iter__()


@dataclass(eq=False)
class InMemory:
    """Gathers and converts many batches at once, then slices them: no per-row Python.

    The tensors keep their stored type (bytes where pixels are bytes) and may be on any device.
    """

    x: Tensor
    y: Tensor
    batch_size: int
    order: Order
    shape: Shape

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def to(self, device: torch.device) -> None:
        """Move the data to the device of the batches, once."""
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
    """Stage 1: slice x and y."""
    x, y = split.floats()
    return Passes(script_loaders.slices, x.view(-1, *shape), y, batch_size, order)


@register.loader("tensor_dataset", plain=script_loaders.tensor_dataset, views=True, reads_once=True)
def tensor_dataset(split: Split, batch_size: int, order: Order, shape: Shape) -> Passes:
    """Stage 6: slice a TensorDataset, which gives both."""
    x, y = split.floats()
    return Passes(script_loaders.tensor_dataset, x.view(-1, *shape), y, batch_size, order)


@register.loader("dataloader", plain=script_loaders.dataloader)
def dataloader(
    split: Split, batch_size: int, order: Order, shape: Shape, *, num_workers: Annotated[int, Ge(0)] = 0
) -> Any:
    """Stage 7: torch's DataLoader over a TensorDataset, or over the split's map-style dataset."""
    if not is_arrays(split.dataset):
        return wrapped_dataloader(split, batch_size, order, shape, num_workers=num_workers)
    x, y = split.floats()
    return OrderedLoader(Rows(x.view(-1, *shape), y), batch_size, order, num_workers)


@register.loader("wrapped_dataloader", plain=script_loaders.wrapped_dataloader)
def wrapped_dataloader(
    split: Split, batch_size: int, order: Order, shape: Shape, *, num_workers: Annotated[int, Ge(0)] = 0
) -> Wrapped:
    """Stage 12: rows keep the data's shape, and each batch gets the model's."""
    dataset = Rows(*split.floats()) if is_arrays(split.dataset) else split.dataset

    def preprocess(xb: Tensor, yb: Tensor) -> Batch:
        return to_float(xb).view(-1, *shape), as_targets(yb)

    return Wrapped(OrderedLoader(dataset, batch_size, order, num_workers), preprocess)


@register.loader("in_memory", plain=script_loaders.slices, views=True, reads_once=True, on_device=True)
def in_memory(split: Split, batch_size: int, order: Order, shape: Shape) -> InMemory:
    """Keep every row in memory, on the device; a map-style dataset's items are each read once."""
    return InMemory(*split.tensors, batch_size, order, shape)


def _unchanged(batch: Any) -> Any:
    """Return a batch of `Rows`, which needs no stacking; spawned workers need a function with a name."""
    return batch
