"""Batches of a split, and the order of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from experiments.data import nested
from experiments.data.nested import Nested
from experiments.data.split import Split
from experiments.data.tensors import viewed
from experiments.seeds import epoch_order, epoch_seed


class Order(Sampler[int]):
    """A sampler whose order is a pure function of (seed, epoch), so that it can be repeated, resumed and sharded.

    Its `epoch` is set before it is iterated.

    Args:
        size: rows of an epoch.
        rows: of the split, where an epoch has not all of them.
        weights: how likely each row is drawn, any number of times an epoch; None to take each once.
    """

    def __init__(
        self, size: int, *, shuffle: bool, seed: int, rows: int | None = None, weights: Tensor | None = None
    ) -> None:
        self.size, self.rows, self.shuffle, self.seed, self.epoch = size, rows or size, shuffle, seed, 0
        self.weights = weights

    def indices(self) -> Tensor | None:
        """Return this epoch's order, int64 (size,); None for the stored order."""
        if self.weights is not None:
            generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
            return torch.multinomial(self.weights, self.size, replacement=True, generator=generator)
        if self.shuffle:
            return epoch_order(self.rows, self.seed, self.epoch)[: self.size]
        return None if self.size == self.rows else torch.arange(self.size)

    def __iter__(self) -> Iterator[int]:
        indices = self.indices()
        return iter(range(self.size) if indices is None else indices.tolist())

    def __len__(self) -> int:
        return self.size


@dataclass(frozen=True)
class Batches:
    """One split as batches: what the runner iterates, epoch by epoch.

    Args:
        loader: an iterable of (xb, yb) with a length.
        shape: of one input, as the model takes it; of each, where there are several.
        limit: the most batches of an epoch.
        target_shape: of a row's targets, where they are given in another one than they are stored in.
    """

    loader: Any
    order: Order
    split: Split
    batch_size: int
    shape: Any
    limit: int | None = None
    target_shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return min(len(self.loader), self.limit or len(self.loader))

    def epoch(self, epoch: int) -> Iterator[tuple[Nested, Nested]]:
        """Return the batches (xb, yb) of one epoch."""
        self.order.epoch = epoch
        batches = islice(self.loader, self.limit)
        shape = self.target_shape
        return batches if shape is None else ((xb, yb.view(-1, *shape)) for xb, yb in batches)

    def as_stored(self, batch: int) -> tuple[Nested, Nested]:
        """Return one batch of the rows in their stored order."""
        rows = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        x, y = nested.apply(lambda tensor: tensor[rows].clone(), self.split.tensors)
        return viewed(self.split.inputs(x), self.shape), y
