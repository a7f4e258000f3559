"""The rows of each batch that belong to one of several processes.

A batch is cut into consecutive shares, the first ones a row larger where it does not divide evenly. A loader gets its
share as an order and a batch size, so that every loader can be shared and each process reads its own rows only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from experiments.data import nested
from experiments.data.batches import Order
from experiments.seeds import of_process


def share(rows: int, rank: int, world: int) -> slice:
    """Return which rows are a process's."""
    size, more = divmod(rows, world)
    start = rank * size + min(rank, more)
    return slice(start, start + size + (rank < more))


def size(rows: int, rank: int, world: int) -> int:
    """Return how many rows are a process's."""
    return rows // world + (rank < rows % world)


class ShareOrder(Order):
    """One process's rows of an order.

    Each process has its own seed, from which a DataLoader's workers get theirs, so that they draw different noise.

    Args:
        whole: the order of all rows.
        batch_size: rows of a batch of all processes together.
    """

    def __init__(self, whole: Order, batch_size: int, rank: int, world: int) -> None:
        last = len(whole) % batch_size
        rows = len(whole) // batch_size * size(batch_size, rank, world) + size(last, rank, world)
        super().__init__(rows, shuffle=whole.shuffle, seed=of_process(whole.seed, rank))
        self.whole, self.batch_size, self.rank, self.world = whole, batch_size, rank, world

    def indices(self) -> Tensor:
        """Return this epoch's rows of the process, int64."""
        self.whole.epoch = self.epoch
        rows = self.whole.indices()
        if rows is None:
            rows = torch.arange(len(self.whole))
        full = len(rows) // self.batch_size * self.batch_size
        batches = rows[:full].view(-1, self.batch_size)[:, share(self.batch_size, self.rank, self.world)]
        return torch.cat([batches.flatten(), rows[full:][share(len(rows) - full, self.rank, self.world)]])

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices().tolist())


class EveryBatch:
    """A process's loader that yields all `batches` of the processes together, without rows where its share is empty."""

    def __init__(self, loader: Any, batches: int) -> None:
        self.loader, self.batches = loader, batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        given = 0
        for given, (xb, yb) in enumerate(self.loader, 1):  # noqa: B007  # used after the loop
            yield xb, yb
        if given < self.batches:
            yield nested.apply(lambda tensor: tensor[:0], (xb, yb))
