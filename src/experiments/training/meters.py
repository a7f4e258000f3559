"""How far an epoch is: its steps and seconds, and the means of a pass, read from the device once, at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.data import nested
from experiments.data.nested import Nested
from experiments.training.losses import mean

Metric = Callable[[Nested, Nested], Any]

# Batches that a metric takes at once: it is a sum over rows, and one call costs as much as many.
POOLED = 64
# Bytes of predictions and targets from which it takes fewer, so that those of a language model are not kept.
POOLED_BYTES = 16 << 20


@dataclass(frozen=True)
class OverPass:
    """A metric over a pass; `start` returns it without rows: update, compute, state_dict and load_state_dict."""

    start: Callable[[], Any]


def as_number(value: Any) -> float | None:
    """Return a number, or a tensor or array without dimensions, as a float; None for anything else."""
    if hasattr(value, "ndim"):
        value = value.item() if value.ndim == 0 else None
    return float(value) if isinstance(value, int | float) else None


class Sums:
    """Losses and metrics of a pass.

    Args:
        metrics: by name, (pred, target) -> sum over rows, or a metric over a pass.
        by_rows: weight each batch by its rows; else each batch counts the same. A metric over a pass has no weights.
        all_reduce: adds numbers over all processes that train together, each on some of a batch's rows.
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric | OverPass],
        *,
        by_rows: bool = True,
        all_reduce: Callable[[Sequence[float]], list[float]] = list,
    ) -> None:
        self.names, self.by_rows, self.all_reduce = ("loss", *metrics), by_rows, all_reduce
        self.over_pass = {name: metric.start() for name, metric in metrics.items() if isinstance(metric, OverPass)}
        self.metrics = {name: metric for name, metric in metrics.items() if not isinstance(metric, OverPass)}
        self.sizes: list[int] = []
        self._whole: list[float] = []  # the batches' sizes in all processes together
        self._losses: list[Tensor] = []  # each of many batches
        self._metrics: dict[str, list[Tensor]] = {name: [] for name in self.metrics}
        self._pending: list[tuple[Nested, Nested, Tensor]] = []  # without sums over rows, None, None and the loss

    @property
    def rows(self) -> int:
        """Rows so far; of all processes, once the means are taken."""
        return int(sum(self._whole or self.sizes))

    def add(self, pred: Nested, target: Nested, loss: Tensor | tuple[Tensor, Tensor | float]) -> None:
        """Add one batch: its predictions, its targets, its loss (the mean, or sum and weight). No sum is read."""
        rows = nested.rows(target)
        if not rows:  # another process has the rows of an epoch's last batch
            return
        self.sizes.append(rows)
        for metric in self.over_pass.values():
            metric.update(pred, target)
        batch = (pred, target) if self.metrics else (None, None)
        if self._pending and _row_shapes(self._pending[-1][:2]) != _row_shapes(batch):
            self._pool()
        self._pending.append((*batch, loss if isinstance(loss, Tensor) else _stacked(*loss)))
        size = sum(part.nbytes for part in nested.leaves(batch)) * len(self._pending)
        several = not isinstance(batch[0], Tensor | None) or not isinstance(batch[1], Tensor | None)
        if len(self._pending) == POOLED or size >= POOLED_BYTES or several:
            self._pool()

    @property
    def takes_pools(self) -> bool:
        """Whether the next batches may be added as a pool: metrics are sums over rows, no batch waits for others."""
        return self.by_rows and not self.over_pass and not self._pending

    def add_pool(self, pred: Tensor, target: Tensor, losses: Tensor, sizes: Sequence[int]) -> None:
        """Add as many batches as are pooled, joined: what `add` makes of them, with their losses (n,) or (n, 2)."""
        self.sizes += sizes
        self._losses.append(losses)
        self._measure([pred], [target], losses.device)

    def state_dict(self) -> dict[str, Any]:
        """Return what was added so far, unpooled, since pooling may change a metric's last bits.

        Copies, since a target may be a view of all of them, which would be saved whole.
        """
        return {
            "sizes": self.sizes,
            "losses": self._losses,
            "metrics": self._metrics,
            "over_pass": {name: metric.state_dict() for name, metric in self.over_pass.items()},
            "pending": [nested.apply(torch.Tensor.clone, batch) for batch in self._pending],
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from a state_dict(), on a device."""
        self.sizes = list(state["sizes"])
        self._losses = [loss.to(device) for loss in state["losses"]]
        self._metrics = {name: [value.to(device) for value in values] for name, values in state["metrics"].items()}
        self._pending = [nested.apply(lambda part: part.to(device), batch) for batch in state["pending"]]
        for name, metric in self.over_pass.items():
            metric.load_state_dict(state["over_pass"][name])
            if hasattr(metric, "to"):
                metric.to(device)

    def means(self) -> dict[str, float]:
        """Return the mean loss and metrics, summed in float64: the one place where a pass is read from the device."""
        self._pool()
        self._whole = whole = self.all_reduce(self.sizes)
        losses = torch.cat(self._losses).cpu().double()
        weights = self.sizes if self.by_rows else [size / rows for size, rows in zip(self.sizes, whole, strict=False)]
        means = (losses if losses.ndim == 1 else losses[:, 0] / losses[:, 1]).tolist()
        sums = [sum(loss * weight for loss, weight in zip(means, weights, strict=True))]
        for values in self._metrics.values():
            found = torch.stack(values).tolist()
            sums.append(sum(found if self.by_rows else [v / rows for v, rows in zip(found, whole, strict=False)]))
        total, sums = self.rows if self.by_rows else len(whole), self.all_reduce(sums)
        figures = {name: value / total for name, value in zip(("loss", *self.metrics), sums, strict=True)}
        if losses.ndim == 2 and self.by_rows:
            figures["loss"] = float(mean(tuple(losses.sum(0))))
        figures |= {name: float(metric.compute()) for name, metric in self.over_pass.items()}
        return {name: figures[name] for name in self.names}

    def recent(self) -> str:
        """Return the mean loss of the last batches in words, read from the device."""
        losses = torch.stack([loss for _, _, loss in self._pending]) if self._pending else self._losses[-1]
        return f"loss {float(losses.mean() if losses.ndim == 1 else mean(tuple(losses.sum(0)))):.4f}"

    def _pool(self) -> None:
        if not self._pending:
            return
        preds, targets, losses = (list(part) for part in zip(*self._pending, strict=True))
        self._losses.append(torch.stack(losses))
        if self.metrics and self.by_rows and len(losses) > 1:
            preds, targets = [torch.cat(preds)], [torch.cat(targets)]
        self._measure(preds, targets, losses[0].device)
        self._pending.clear()

    def _measure(self, preds: Sequence[Nested], targets: Sequence[Nested], device: torch.device) -> None:
        for name, metric in self.metrics.items():
            for value in map(metric, preds, targets):
                plain = value if isinstance(value, Tensor) else as_number(value)
                self._metrics[name].append(torch.as_tensor(plain, device=device))


def _stacked(total: Tensor, weight: Tensor | float) -> Tensor:
    return torch.stack([total, torch.as_tensor(weight, dtype=total.dtype, device=total.device)])


def _row_shapes(batch: Nested) -> list[torch.Size]:
    return [part.shape[1:] for part in nested.leaves(batch)]


class Progress:
    """How far the running epoch is; `sums` are those of its training steps so far."""

    def __init__(self, sums: Sums) -> None:
        self.sums = sums
        self.step = 0  # training steps done
        self.spent = 0.0  # seconds in earlier processes
        self.noise: dict[str, Any] | None = None  # state of the noise stream before the evaluation
        self.start_clock()

    def start_clock(self) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def seconds(self) -> float:
        """Return the epoch's seconds so far."""
        return self.spent + time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        """Return it as tensors and plain values."""
        return {"step": self.step, "seconds": self.seconds(), "sums": self.sums.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from a state_dict()."""
        self.step, self.spent = state["step"], state["seconds"]
        self.sums.load_state_dict(state["sums"], device)
