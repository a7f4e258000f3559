"""Streams: an IterableDataset with a stated number of rows a pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from experiments.data.batches import Order
from experiments.errors import DataError
from experiments.seeds import epoch_seed, noise_kept, noise_state, restore_noise, seed_noise

CPU = torch.device("cpu")


class Stream(IterableDataset[Any]):
    """The first `rows` items that an IterableDataset gives in a pass.

    Raises:
        DataError: while it is read, there are fewer.
    """

    def __init__(self, dataset: IterableDataset[Any], rows: int) -> None:
        self.dataset, self.rows = dataset, rows

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[Any]:
        read = 0
        for read, item in enumerate(itertools.islice(self.dataset, self.rows), 1):  # noqa: B007  # used after the loop
            yield item
        if read < self.rows:
            raise DataError(f"the stream ended after {read} rows; a pass has {self.rows} by its `rows`")


class StreamLoader(DataLoader[Any]):
    """Batches of a stream; what it draws is a pure function of the order's seed and epoch.

    So a training that resumes within an epoch reads the batches before that place again, to the bit.
    """

    def __init__(self, stream: Stream, batch_size: int, order: Order, collate: Any) -> None:
        self.order = order
        super().__init__(stream, batch_size, collate_fn=collate, generator=torch.Generator().manual_seed(0))

    def __iter__(self) -> Any:
        with noise_kept():
            seed_noise(epoch_seed(self.order.seed, self.order.epoch) % 2**32)
            batches, own = super().__iter__(), noise_state(CPU)
        while True:
            with noise_kept():
                restore_noise(own, CPU)
                batch = next(batches, None)
                own = noise_state(CPU)
            if batch is None:
                return
            yield batch
