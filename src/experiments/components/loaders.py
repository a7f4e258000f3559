"""Loaders: `(split, batch_size, order, shape)` returns an iterable of batches (xb, yb), with a length.

`shape` is that of one input as the model takes it, and `split.floats()` has x in the type that it takes; x and y may be
tuples or mappings of tensors, and `shape` one of shapes. In the same order, all loaders yield the same batches, bit for
bit: the first four are the tutorial's, `in_memory` is the default outside the stages. A loader declares at its
registration: `plain`, its form in a plain script; `views=True`, its batches may be views of the rows;
`reads_once=True`, it reads each item of a dataset once; `on_device=True`, it has `to(device)` and keeps the rows there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor
from torch.utils.data import DataLoader

from experiments.components import script_loaders
from experiments.config.registry import register
from experiments.data import nested
from experiments.data.batches import Order
from experiments.data.nested import Nested
from experiments.data.split import Collate, Split
from experiments.data.stream import Stream, StreamLoader
from experiments.data.tensors import Rows, Shape, as_rows, features, is_arrays, viewed
from experiments.errors import ConfigError, Fault
from experiments.seeds import epoch_seed

Batch = tuple[Nested, Nested]

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
    x: Nested
    y: Nested
    batch_size: int
    order: Order

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        indices = self.order.indices()
        plain = isinstance(self.x, Tensor) and isinstance(self.y, Tensor)
        sliced = self.batches if plain else script_loaders.nested_slices
        batches = sliced(self.x, self.y, self.batch_size, indices)
        # Slices are views, and a change of a batch in place would change the data.
        return batches if indices is not None else (nested.apply(Tensor.clone, batch) for batch in batches)


class OrderedLoader(DataLoader[Any]):
    """Torch's DataLoader in an order's order, its workers' seed a pure function of the order's seed and epoch.

    A pass draws its workers' seed from the loader's generator. A separate one, seeded for each pass, leaves the noise
    stream unchanged, and gives a resumed training's workers the same seeds.
    """

    def __init__(
        self, dataset: Any, batch_size: int, order: Order, num_workers: int, collate: Collate | None = None
    ) -> None:
        self.order = order
        super().__init__(
            dataset,
            batch_size,
            sampler=order,
            num_workers=num_workers,
            collate_fn=_unchanged if isinstance(dataset, Rows) else collate,
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

    split: Split
    batch_size: int
    order: Order
    shape: Shape

    def __post_init__(self) -> None:
        self.x, self.y = self.split.tensors

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def to(self, device: torch.device) -> None:
        """Move the data to the device of the batches, once."""
        self.x, self.y = nested.apply(lambda tensor: tensor.to(device), (self.x, self.y))

    def __iter__(self) -> Iterator[Batch]:
        indices = self.order.indices()
        if indices is not None:
            indices = indices.to(nested.leaves(self.x)[0].device)
        batches = max(1, GATHERED_BYTES // (4 * features(self.shape) * self.batch_size))
        for start in range(0, len(self.order), batches * self.batch_size):
            part = slice(start, start + batches * self.batch_size)
            rows = None if indices is None else indices[part]
            x, y = nested.apply(lambda t: _gathered(t, part, rows), (self.x, self.y))  # noqa: B023  # called here
            x = viewed(self.split.inputs(x), self.shape)
            yield from zip(nested.split(x, self.batch_size), nested.split(y, self.batch_size), strict=True)


@register.loader("slices", plain=script_loaders.slices, views=True, reads_once=True)
def slices(split: Split, batch_size: int, order: Order, shape: Shape) -> Passes:
    """Stage 1: slice x and y."""
    x, y = split.floats()
    return Passes(script_loaders.slices, viewed(x, shape), y, batch_size, order)


@register.loader("tensor_dataset", plain=script_loaders.tensor_dataset, views=True, reads_once=True)
def tensor_dataset(split: Split, batch_size: int, order: Order, shape: Shape) -> Passes:
    """Stage 6: slice a TensorDataset, which gives both."""
    x, y = split.floats()
    return Passes(script_loaders.tensor_dataset, viewed(x, shape), y, batch_size, order)


@register.loader("dataloader", plain=script_loaders.dataloader)
def dataloader(
    split: Split, batch_size: int, order: Order, shape: Shape, *, num_workers: Annotated[int, Ge(0)] = 0
) -> Any:
    """Stage 7: torch's DataLoader over a TensorDataset, or over the split's map-style dataset."""
    if not is_arrays(split.dataset):
        return wrapped_dataloader(split, batch_size, order, shape, num_workers=num_workers)
    x, y = split.floats()
    return OrderedLoader(Rows(viewed(x, shape), y), batch_size, order, num_workers)


@register.loader("wrapped_dataloader", plain=script_loaders.wrapped_dataloader)
def wrapped_dataloader(
    split: Split, batch_size: int, order: Order, shape: Shape, *, num_workers: Annotated[int, Ge(0)] = 0
) -> Wrapped:
    """Stage 12: rows keep the data's shape, and each batch gets the model's."""
    if isinstance(split.dataset, Stream):
        if num_workers:
            raise ConfigError(Fault("loader.num_workers", "each worker would read the whole stream; 0 reads it once"))
        return Wrapped(StreamLoader(split.dataset, batch_size, order, split.collate), _converted(split, shape))
    dataset = Rows(*split.floats()) if is_arrays(split.dataset) else split.dataset

    preprocess = _shaped(shape) if isinstance(dataset, Rows) else _converted(split, shape)
    return Wrapped(OrderedLoader(dataset, batch_size, order, num_workers, split.collate), preprocess)


@register.loader("in_memory", plain=script_loaders.slices, views=True, reads_once=True, on_device=True)
def in_memory(split: Split, batch_size: int, order: Order, shape: Shape) -> InMemory:
    """Keep every row in memory, on the device; a map-style dataset's items are each read once."""
    return InMemory(split, batch_size, order, shape)


def _shaped(shape: Shape) -> Callable[[Nested, Nested], Batch]:
    return lambda xb, yb: (viewed(xb, shape), yb)


def _converted(split: Split, shape: Shape) -> Callable[[Any, Any], Batch]:
    """Return how a batch of a dataset's own items becomes what the model takes."""

    def convert(xb: Any, yb: Any) -> Batch:
        x, _ = as_rows(nested.tuples(xb), split.shape)
        return viewed(split.inputs(x), shape), split.targets(nested.tuples(yb))

    return convert


def _gathered(tensor: Tensor, part: slice, rows: Tensor | None) -> Tensor:
    """Return a copy of consecutive rows, or of the chosen ones."""
    # index_select copies row by row, several times as fast as x[indices], which goes number by number
    return tensor[part].clone() if rows is None else tensor.index_select(0, rows)


def _unchanged(batch: Any) -> Any:
    """Return a batch of `Rows`, which needs no stacking; spawned workers need a function with a name."""
    return batch
