"""How far an epoch is: its steps and seconds, and the means of a pass, read from the device once, at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.training.losses import mean

Metric = Callable[[Tensor, Tensor], Tensor]

# Batches that a metric takes at once: it is a sum over rows, and one call costs as much as many.
POOLED = 64


class Sums:
    """Losses and metrics of a pass.

    Args:
        metrics: by name, (pred, target) -> sum over rows.
        by_rows: weight each batch by its rows; else each batch counts the same.
        all_reduce: adds numbers over all processes that train together, each on some of a batch's rows.
    """

    def __init__(
        self,
        metrics: Mapping[str, Metric],
        *,
        by_rows: bool = True,
        all_reduce: Callable[[Sequence[float]], list[float]] = list,
    ) -> None:
        self.metrics, self.by_rows, self.all_reduce = metrics, by_rows, all_reduce
        self.sizes: list[int] = []
        self._whole: list[float] = []  # the batches' sizes in all processes together
        self._losses: list[Tensor] = []  # each of many batches
        self._metrics: dict[str, list[Tensor]] = {name: [] for name in metrics}
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def rows(self) -> int:
        """Rows so far; of all processes, once the means are taken."""
        return int(sum(self._whole or self.sizes))

    def add(self, pred: Tensor, target: Tensor, loss: Tensor | tuple[Tensor, Tensor]) -> None:
        """Add one batch: its predictions, its targets, its loss (the mean, or sum and weight). Nothing is read."""
        if not len(target):  # another process has the rows of an epoch's last batch
            return
        self.sizes.append(len(target))
        self._pending.append((pred, target, loss if isinstance(loss, Tensor) else torch.stack(loss)))
        if len(self._pending) == POOLED:
            self._pool()

    def state_dict(self) -> dict[str, Any]:
        """Return what was added so far, unpooled, since pooling may change a metric's last bits.

        Copies, since a target may be a view of all of them, which would be saved whole.
        """
        return {
            "sizes": self.sizes,
            "losses": self._losses,
            "metrics": self._metrics,
            "pending": [[part.clone() for part in batch] for batch in self._pending],
        }

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Continue from a state_dict(), on a device."""
        self.sizes = list(state["sizes"])
        self._losses = [loss.to(device) for loss in state["losses"]]
        self._metrics = {name: [value.to(device) for value in values] for name, values in state["metrics"].items()}
        self._pending = [
            (pred.to(device), target.to(device), loss.to(device)) for pred, target, loss in state["pending"]
        ]

    def means(self) -> dict[str, float]:
        """Return the mean loss and metrics, summed in float64: the one place where a pass is read from the device."""
        self._pool()
        self._whole = whole = self.all_reduce(self.sizes)
        losses = torch.cat(self._losses).tolist()
        weights = self.sizes if self.by_rows else [size / rows for size, rows in zip(self.sizes, whole, strict=False)]
        weighted = isinstance(losses[0], list)
        if weighted:
            sums_and_weights, losses = losses, [total / weight for total, weight in losses]
        sums = [sum(loss * weight for loss, weight in zip(losses, weights, strict=True))]
        for values in self._metrics.values():
            found = torch.stack(values).tolist()
            sums.append(sum(found if self.by_rows else [v / rows for v, rows in zip(found, whole, strict=False)]))
        total = self.rows if self.by_rows else len(whole)
        means = {name: s / total for name, s in zip(("loss", *self.metrics), self.all_reduce(sums), strict=True)}
        if weighted and self.by_rows:
            means["loss"] = sum(s for s, _ in sums_and_weights) / sum(weight for _, weight in sums_and_weights)
        return means

    def recent(self) -> str:
        """Return the mean loss of the last batches in words, read from the device."""
        losses = torch.stack([loss for _, _, loss in self._pending]) if self._pending else self._losses[-1]
        return f"loss {float(losses.mean() if losses.ndim == 1 else mean(tuple(losses.sum(0)))):.4f}"

    def _pool(self) -> None:
        if not self._pending:
            return
        self._losses.append(torch.stack([loss for _, _, loss in self._pending]))
        for name, metric in self.metrics.items():
            if self.by_rows:
                preds = torch.cat([pred for pred, _, _ in self._pending])
                self._metrics[name].append(metric(preds, torch.cat([target for _, target, _ in self._pending])))
            else:
                self._metrics[name] += [metric(pred, target) for pred, target, _ in self._pending]
        self._pending.clear()


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
