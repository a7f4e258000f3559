"""Batches of a split, and the order of its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor
from torch.utils.data import Sampler

from experiments.data.splits import Split
from experiments.data.tensors import to_float
from experiments.seeds import epoch_order


class Order(Sampler[int]):
    """A sampler whose order is a pure function of (seed, epoch), so that it can be repeated, resumed and sharded.

    Its `epoch` is set before it is iterated.
    """

    def __init__(self, size: int, *, shuffle: bool, seed: int) -> None:
        self.size, self.shuffle, self.seed, self.epoch = size, shuffle, seed, 0

    def indices(self) -> Tensor | None:
        """Return this epoch's order, int64 (size,); None for the stored order."""
        return epoch_order(self.size, self.seed, self.epoch) if self.shuffle else None

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
        shape: of one input, as the model takes it.
        limit: the most batches of an epoch.
    """

    loader: Any
    order: Order
    split: Split
    batch_size: int
    shape: tuple[int, ...]
    limit: int | None = None

    def __len__(self) -> int:
        return min(len(self.loader), self.limit or len(self.loader))

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the batches (xb, yb) of one epoch."""
        self.order.epoch = epoch
        return islice(self.loader, self.limit)

    def as_stored(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return one batch of the rows in their stored order."""
        rows = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        x, y = (tensor[rows].clone() for tensor in self.split.tensors)
        return to_float(x).view(-1, *self.shape), y
