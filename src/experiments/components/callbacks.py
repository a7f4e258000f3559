"""Callbacks: `(**arguments)` returns a Callback, with hooks at a training's start, after each epoch and at its end.

A callback declares at its registration: `watches_only=True`, it changes nothing in a training, so that a script does
without it; `stops_early=True`, it may end a training before its last epoch and restore earlier weights.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from experiments.config.registry import register
from experiments.training.callback import Callback, Training
from experiments.training.result import Metrics

log = logging.getLogger(__name__)

WEIGHT_IMAGES = "weight_images.npz"


@register.callback("early_stopping", stops_early=True)
class EarlyStopping(Callback):
    """Stops when a metric no longer improves, and restores the weights of its best epoch.

    Args:
        mode: whether the smallest ("min") or the largest ("max") is best; None means max for accuracies, else min.
        patience: epochs without improvement before it stops.
        min_delta: the least improvement that counts.
    """

    def __init__(
        self,
        *,
        monitor: str = "valid/loss",
        mode: Literal["min", "max"] | None = None,
        patience: Annotated[int, Ge(1)] = 3,
        min_delta: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self.watches = (monitor,)
        largest = mode == "max" or (mode is None and monitor.endswith("accuracy"))
        self.sign = -1.0 if largest else 1.0
        self.best = float("inf")
        self.best_epoch = 0
        self.weights: dict[str, Any] = {}

    def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
        """Remember the best weights; stop once patience is over."""
        value = self.sign * float(figures[self.monitor])  # a numpy number could not be read from a checkpoint
        if value < self.best - self.min_delta:
            self.best, self.best_epoch = value, epoch
            self.weights = copy.deepcopy(runner.model.state_dict())
        elif epoch - self.best_epoch >= self.patience:
            runner.stop(f"{self.monitor} has not improved since epoch {self.best_epoch}")

    def state_dict(self) -> dict[str, Any]:
        """Return the best epoch so far, and its weights."""
        return {"best": self.best, "best_epoch": self.best_epoch, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state_dict()."""
        self.best, self.best_epoch, self.weights = state["best"], state["best_epoch"], state["weights"]

    def on_fit_end(self, runner: Training) -> None:
        """Restore the best weights."""
        if self.weights:
            runner.model.load_state_dict(self.weights)
            log.info("restored the weights of epoch %d, the best by %s", self.best_epoch, self.monitor)


@register.callback("weight_images", watches_only=True)
class WeightImages(Callback):
    """Keeps the first layer after each epoch, to be drawn after the training: templates or filters."""

    def __init__(self) -> None:
        self.epochs: list[Tensor] = []

    def on_fit_start(self, runner: Training) -> None:
        """Copy the untrained layer."""
        layer = first_layer(runner.model)
        if layer is not None:
            self.epochs.append(layer)

    def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:  # noqa: ARG002  # the hook's signature
        """Copy the layer."""
        self.on_fit_start(runner)

    def on_fit_end(self, runner: Training) -> None:
        """Write the layers into the run's folder."""
        if runner.folder is not None and self.epochs:
            np.savez(runner.folder / WEIGHT_IMAGES, images=torch.stack(self.epochs).numpy())

    def state_dict(self) -> dict[str, Any]:
        """Return the layers so far."""
        return {"epochs": list(self.epochs)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state_dict()."""
        self.epochs = list(state["epochs"])


@register.callback("tutorial_figures", targets="classes", watches_only=True)
class TutorialFigures(Callback):
    """Records the metrics that the tutorial prints: of its first and last mini-batch, before and after training."""

    def on_fit_start(self, runner: Training) -> None:
        """Record both mini-batches before the first step."""
        loss, accuracy = self._metrics(runner, 0)
        last_loss, _ = self._metrics(runner, runner.steps - 1)
        runner.record(
            {
                "tutorial/untrained_first_batch_loss": loss,
                "tutorial/untrained_first_batch_accuracy": accuracy,
                "tutorial/untrained_last_batch_loss": last_loss,
            },
            0,
        )

    def on_fit_end(self, runner: Training) -> None:
        """Record the last mini-batch after the last step."""
        loss, accuracy = self._metrics(runner, runner.steps - 1)
        metrics = {"tutorial/last_batch_loss": loss, "tutorial/last_batch_accuracy": accuracy}
        runner.record(metrics, len(runner.history) - 1)

    @torch.no_grad()
    def _metrics(self, runner: Training, batch: int) -> tuple[float, float]:
        """Return loss and accuracy of one batch of the rows in their stored order."""
        xb, yb = (part.to(runner.device) for part in runner.train.as_stored(batch))
        runner.model.eval()
        pred = runner.predict(xb)
        return runner.loss(pred, yb).item(), (pred.argmax(dim=1) == yb).float().mean().item()


def first_layer(model: Any) -> Tensor | None:
    """Return the first weights that are images: filters (n, channels, height, width), or templates (n, features)."""
    state: dict[str, Tensor] = model.state_dict()
    for name, tensor in state.items():
        if tensor.ndim in (2, 4):
            # nn.Linear stores (outputs, features), the hand-made models (features, outputs).
            layer = tensor.T if name == "weights" and tensor.ndim == 2 else tensor
            return layer.detach().cpu().clone()
    return None
