"""The batches of all models of a stack, and the sums of what was computed of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from experiments.data import nested
from experiments.data.batches import Batches
from experiments.data.nested import Nested
from experiments.data.tensors import viewed
from experiments.training.meters import POOLED, POOLED_BYTES
from hydra_plugins.experiments_batched._seat import Seat, own_problems

CONVERTED = 2**27  # numbers of a dataset that are kept as floats, 512 MiB


class Rows:
    """The batches of all models, gathered at once from one copy of the rows, each in its own order."""

    def __init__(self, size: int, batches: Batches, device: torch.device, part: str = "train") -> None:
        self.size, self.batches, self.device, self.part = size, batches, device, part
        x, y = nested.apply(lambda tensor: tensor.to(device), batches.split.tensors)
        # One copy in the type that the models take, for all of them, unless it is large.
        self.converts = sum(leaf.numel() for leaf in nested.leaves(x)) > CONVERTED
        self.tensors = (x if self.converts else batches.split.inputs(x), y)

    def start(self, slots: Sequence[Seat]) -> None:
        """Take each model's order in its epoch."""
        orders = {}
        for seat in slots:
            order = getattr(seat.runner, self.part).order
            if id(seat) not in orders:
                order.epoch = seat.epoch
                found = order.indices()
                orders[id(seat)] = torch.arange(len(order)) if found is None else found
        self.orders = torch.stack([orders[id(seat)] for seat in slots]).to(self.device)

    def batch(self, number: int) -> tuple[Nested, Nested]:
        """Return x and y of the batch with this number, (models, rows, ...)."""
        size, batches = self.batches.batch_size, self.batches
        rows = self.orders[:, number * size : (number + 1) * size].reshape(-1)
        x, y = nested.apply(lambda tensor: tensor.index_select(0, rows), self.tensors)
        x = viewed(batches.split.inputs(x) if self.converts else x, batches.shape)
        y = y if batches.target_shape is None else y.view(-1, *batches.target_shape)
        each: tuple[Nested, Nested] = nested.apply(lambda t: t.unflatten(0, (self.size, -1)), (x, y))
        return each


class Pool:
    """Adds batches to the sums of each model, where it can as many at once as sums pool themselves."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self.seats, self.kept, self.limit, self.plain = seats, list[tuple[Nested, Nested, Tensor]](), 0, True

    def add(self, pred: Nested, target: Nested, loss: Tensor) -> None:
        """Add one batch of all models."""
        sharing = len(loss) // nested.rows(target)
        target = nested.apply(lambda leaf: leaf.repeat_interleave(sharing, 0) if sharing > 1 else leaf, target)
        self.kept.append((pred, target, loss))
        if not self.limit:
            size = sum(leaf.nbytes for leaf in nested.leaves((pred, target))) // len(loss)
            self.plain = isinstance(pred, Tensor) and isinstance(target, Tensor)
            self.limit = max(1, min(POOLED, -(-POOLED_BYTES // max(1, size)))) if self.plain else 1
        if len(self.kept) == self.limit:
            self.close(whole=True)

    def close(self, *, whole: bool) -> None:
        """Add what is kept; batches that are not a `whole` pool are left to the sums to pool."""
        if not self.kept:
            return
        pools = [seat for seat in self.seats if whole and self.plain and seat.sums.takes_pools]
        if pools:
            preds, targets, losses = zip(*self.kept, strict=True)
            pred, target, loss = torch.cat(preds, 1), torch.cat(targets, 1), torch.stack(losses, 1)
            sizes = [each.shape[1] for each in targets]
            for seat in pools:
                with own_problems(seat):
                    seat.sums.add_pool(pred[seat.slot], target[seat.slot], loss[seat.slot], sizes)
        for seat in self.seats:
            for batch in () if seat in pools else self.kept:
                with own_problems(seat):
                    seat.sums.add(*nested.apply(lambda leaf: leaf[seat.slot], batch))  # noqa: B023  # called here
        self.kept.clear()
