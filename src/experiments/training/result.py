"""The result of a training."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.tracking import delivered, links

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metrics = dict[str, float]


@dataclass
class Result:
    """The result of a training.

    Args:
        model: the trained model.
        untrained: the metrics before the first step.
        history: the metrics of each epoch, from epoch 0.
        stopped: why it stopped before its last epoch; empty where it did not.
        folder: the run's folder; None for a training without one.
        run_id: the run in MLflow, once it is uploaded.
        paused: whether it ended before its last epoch as asked, to be resumed.
    """

    model: Any
    untrained: Metrics
    history: list[Metrics]
    stopped: str = ""
    folder: Path | None = None
    run_id: str | None = None
    paused: bool = False

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation loss."""
        losses = [figures["valid/loss"] for figures in self.history]
        return losses.index(lowest(losses))

    @property
    def best_valid_loss(self) -> float:
        """The lowest validation loss, which a search minimises."""
        return self.history[self.best_epoch]["valid/loss"]

    def plot(self) -> Figure:
        """Draw the losses of each epoch; a notebook shows the figure."""
        from experiments.tracking import figures  # needs matplotlib

        return figures.losses(self.history, self.untrained)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the metrics, the losses as a curve, the folder and the link to MLflow."""
        from jinja2 import Environment, PackageLoader

        self.plot().savefig(curve := io.BytesIO(), format="svg")
        state = delivered.state(self.folder) if self.folder else delivered.Delivered()
        link = links.runs(state.store, [state]) if state.store and state.run_id else ""
        served = links.ui_command(state.store) if link and state.store else ""
        page = Environment(loader=PackageLoader("experiments.training"), autoescape=True).get_template("result.html")
        text = base64.b64encode(curve.getvalue()).decode()
        return page.render(result=self, curve=text, link=link, served=served)


def not_finite(history: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """Return the metrics with a NaN or infinite value, each with the first one and its epoch in words."""
    found: dict[str, str] = {}
    for epoch, metrics in enumerate(history):
        for name, value in metrics.items():
            if not math.isfinite(value) and not name.startswith("best/"):
                found.setdefault(name, f"{name} is {value} in epoch {epoch}")
    return found


def lowest(losses: Sequence[float]) -> float:
    """Return the lowest finite loss; without one an infinite one, else NaN."""
    return min(losses, key=lambda loss: (not math.isfinite(loss), math.isnan(loss), loss))


def figure_names(metrics: Iterable[str]) -> list[str]:
    """Return the names of an epoch's metrics, before callbacks add theirs."""
    means = [f"{part}/{name}" for part in ("train", "valid") for name in ("loss", *metrics)]
    return [*means, "best/valid_loss", "time/epoch_seconds", "throughput/samples_per_second"]
