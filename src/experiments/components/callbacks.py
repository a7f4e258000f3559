"""Callbacks: `(**arguments)` gives a Callback, with hooks at a training's start, after each epoch and at its end.

A callback declares at its registration: `watches_only=True`, it changes nothing in a training, so that a script needs
none; `stops_early=True`, it may end a training before its last epoch and go back to earlier weights.
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
    """Stops when a figure no longer improves, and goes back to the weights of its best epoch.

    Args:
        monitor: a figure of the run.
        mode: whether the smallest ("min") or the largest ("max") is best; None for the largest of accuracies alone.
        patience: epochs without improvement before it stops.
        min_delta: what counts as an improvement.
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
        value = self.sign * float(figures[self.monitor])  # of numpy, it could not be read again from a checkpoint
        if value < self.best - self.min_delta:
            self.best, self.best_epoch = value, epoch
            self.weights = copy.deepcopy(runner.model.state_dict())
        elif epoch - self.best_epoch >= self.patience:
            runner.stop(f"{self.monitor} has not improved since epoch {self.best_epoch}")

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far, and its weights."""
        return {"best": self.best, "best_epoch": self.best_epoch, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state_dict()."""
        self.best, self.best_epoch, self.weights = state["best"], state["best_epoch"], state["weights"]

    def on_fit_end(self, runner: Training) -> None:
        """Go back to the best weights."""
        if self.weights:
            runner.model.load_state_dict(self.weights)
            log.info("back to the weights of epoch %d, the best by %s", self.best_epoch, self.monitor)


@register.callback("weight_images", watches_only=True)
class WeightImages(Callback):
    """Keeps the first layer after each epoch, to be drawn after the training: templates or filters."""

    def __init__(self) -> None:
        self.epochs: list[np.ndarray] = []

    def on_fit_start(self, runner: Training) -> None:
        """The untrained layer comes first."""
        self._keep(runner)

    def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:  # noqa: ARG002  # the hook's signature
        """Keep a copy of the layer."""
        self._keep(runner)

    def on_fit_end(self, runner: Training) -> None:
        """Leave them in the run's folder."""
        if runner.folder is not None and self.epochs:
            np.savez(runner.folder / WEIGHT_IMAGES, images=np.stack(self.epochs))

    def state_dict(self) -> dict[str, Any]:
        """The layers so far."""
        return {"epochs": [torch.from_numpy(layer) for layer in self.epochs]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state_dict()."""
        self.epochs = [layer.numpy() for layer in state["epochs"]]

    def _keep(self, runner: Training) -> None:
        layer = first_layer(runner.model)
        if layer is not None:
            self.epochs.append(layer.numpy())


@register.callback("tutorial_figures", targets="classes", watches_only=True)
class TutorialFigures(Callback):
    """The figures that the tutorial prints: its first and last mini-batch, before and after the training."""

    def on_fit_start(self, runner: Training) -> None:
        """Both mini-batches before the first step."""
        loss, accuracy = self._figures(runner, 0)
        last_loss, _ = self._figures(runner, runner.steps - 1)
        runner.record(
            {
                "tutorial/untrained_first_batch_loss": loss,
                "tutorial/untrained_first_batch_accuracy": accuracy,
                "tutorial/untrained_last_batch_loss": last_loss,
            },
            0,
        )

    def on_fit_end(self, runner: Training) -> None:
        """The last mini-batch after the last step."""
        loss, accuracy = self._figures(runner, runner.steps - 1)
        figures = {"tutorial/last_batch_loss": loss, "tutorial/last_batch_accuracy": accuracy}
        runner.record(figures, len(runner.history) - 1)

    @torch.no_grad()
    def _figures(self, runner: Training, batch: int) -> tuple[float, float]:
        """Loss and accuracy of one batch of the rows as they lie, shuffled or not."""
        xb, yb = (part.to(runner.device) for part in runner.train.as_stored(batch))
        runner.model.eval()
        pred = runner.predict(xb)
        return runner.loss(pred, yb).item(), (pred.argmax(dim=1) == yb).float().mean().item()


def first_layer(model: Any) -> Tensor | None:
    """The first weights that are pictures: filters (n, channels, height, width), or templates (n, features)."""
    state: dict[str, Tensor] = model.state_dict()
    for name, tensor in state.items():
        if tensor.ndim == 4:  # a convolution's
            return tensor.detach().cpu().clone()
        if tensor.ndim == 2:  # a matrix
            # nn.Linear keeps (outputs, features), the hand-made models (features, outputs).
            matrix = tensor.T if name == "weights" else tensor
            return matrix.detach().cpu().clone()
    return None
