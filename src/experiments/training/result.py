"""What a training came to."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

Metrics = dict[str, float]
# What MLflow takes for the name of a figure: one it refuses, or a value that is no number, would cost it the whole run.
FIGURE = re.compile(r"[\w\-. /:]+")
FIGURE_NAME = "a figure's name has letters, digits, spaces and _ - . / : alone, for MLflow takes no others"


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


def is_figure(name: str) -> bool:
    """Whether MLflow takes this as the name of a figure, which is a path to it."""
    return bool(FIGURE.fullmatch(name)) and all(part not in ("", ".", "..") for part in name.split("/"))


def sound(figures: Mapping[str, Any]) -> Metrics:
    """The figures that are numbers under a name that MLflow takes; others are told and left out."""
    kept = {}
    for name, value in figures.items():
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError):  # torch's, of a tensor of several numbers
            log.warning("the figure %r is left out, for it is no number: %.80r", name, value)
            continue
        if is_figure(name):
            kept[name] = number
        else:
            log.warning("the figure %r is left out: %s", name, FIGURE_NAME)
    return kept
