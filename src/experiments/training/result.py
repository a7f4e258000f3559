"""What a training came to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Metrics = dict[str, float]


@dataclass
class Result:
    """What a training came to.

    Args:
        model: the trained model.
        untrained: the figures before the first step.
        history: the figures of each epoch, from epoch 0.
        stopped: why it ended before its last epoch; empty where it did not.
        folder: the run's folder; None for a training that has none.
        run_id: the run in MLflow, once it is there.
    """

    model: Any
    untrained: Metrics
    history: list[Metrics]
    stopped: str = ""
    folder: Path | None = None
    run_id: str | None = None

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss."""
        losses = [figures["valid/loss"] for figures in self.history]
        return losses.index(min(losses, key=lambda loss: (math.isnan(loss), loss)))

    @property
    def best_valid_loss(self) -> float:
        """The lowest validation loss: what a search minimises."""
        return self.history[self.best_epoch]["valid/loss"]
