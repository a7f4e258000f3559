"""Callbacks: `(**arguments)` returns a Callback, whose hooks a training calls.

A callback declares at its registration: `watches_only=True`, it changes nothing in a training, so that a script does
without it; `stops_early=True`, it may end a training before its last epoch and restore earlier weights.
"""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Lt
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn, update_bn

from experiments.config.registry import register
from experiments.seeds import noise_state, restore_noise
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


class Averaged(Callback):
    """An average of the weights, which evaluation uses instead of them; buffers are averaged like weights.

    Args:
        evaluation: "averaged" evaluates and ends with the average; "both" adds its metrics as `NAME/valid_loss`.
    """

    label = ""

    def __init__(self, evaluation: Literal["averaged", "both"]) -> None:
        self.evaluation = evaluation
        self.adds = () if evaluation == "averaged" else (f"{self.label}/valid_loss",)
        self.average: dict[str, Tensor] = {}
        self.number = 0  # of weights in the average

    def on_begin(self, runner: Training) -> None:
        """Start from the model's weights, or have those of a restored state on the device."""
        self.average = {name: value.to(runner.device) for name, value in self.average.items()}
        self.average = self.average or copy.deepcopy(runner.model.state_dict())

    def add(self, runner: Training, average: Any) -> None:
        """Add the present weights, by one of torch's averaging functions; whole numbers are copied."""
        present = runner.model.state_dict()
        floats = [name for name, value in present.items() if value.is_floating_point()]
        average([self.average[name] for name in floats], [present[name] for name in floats], self.number)
        for name in present.keys() - floats:
            self.average[name].copy_(present[name])
        self.number += 1

    def on_evaluation(self, runner: Training) -> contextlib.AbstractContextManager[None]:
        """Have the average as the model's weights."""
        return self.in_place(runner) if self.evaluation == "averaged" and self.number else contextlib.nullcontext()

    @contextlib.contextmanager
    def in_place(self, runner: Training) -> Iterator[None]:
        """Replace the model's weights; restore them at the end."""
        own = copy.deepcopy(runner.model.state_dict())
        runner.model.load_state_dict(self.average)
        try:
            yield
        finally:
            runner.model.load_state_dict(own)

    def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
        """Add the metrics of the average."""
        if self.evaluation == "both":
            with self.in_place(runner):
                figures |= {f"{self.label}/valid_{name}": value for name, value in runner.evaluate(epoch).items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the average."""
        return {"average": self.average, "number": self.number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state_dict()."""
        self.average, self.number = dict(state["average"]), state["number"]


@register.callback("ema")
class Ema(Averaged):
    """An exponential moving average of the weights, after each update.

    Args:
        decay: the share that the average keeps.
        warmup: whether it keeps less at first: (1 + n) / (10 + n) after n updates, while that is smaller.
    """

    label = "ema"

    def __init__(
        self,
        *,
        decay: Annotated[float, Ge(0), Lt(1)] = 0.999,
        warmup: bool = True,
        evaluation: Literal["averaged", "both"] = "averaged",
    ) -> None:
        super().__init__(evaluation)
        self.decay, self.warmup = decay, warmup

    def on_step_end(self, runner: Training, step: int) -> None:  # noqa: ARG002  # the hook's signature
        """Move the average towards the weights."""
        n = self.number + 1
        decay = min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay
        self.add(runner, get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


@register.callback("swa")
class Swa(Averaged):
    """The mean of the weights after each epoch from `start` on; batch norm's statistics are taken anew for it."""

    label = "swa"

    def __init__(
        self, *, start: Annotated[int, Ge(0)] = 1, evaluation: Literal["averaged", "both"] = "averaged"
    ) -> None:
        super().__init__(evaluation)
        self.start = start

    def on_step_end(self, runner: Training, step: int) -> None:
        """Add the weights of an epoch's end."""
        if (step + 1) % runner.steps == 0 and step // runner.steps >= self.start:
            self.add(runner, get_swa_multi_avg_fn())  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def in_place(self, runner: Training) -> Iterator[None]:
        """Replace the model's weights, with batch norm's statistics of the training rows."""
        with super().in_place(runner):
            noise = noise_state(runner.device)  # dropout draws from it here
            update_bn(((runner.prepared(xb),) for xb, _ in runner.train.epoch(0)), runner.model)
            restore_noise(noise, runner.device)
            yield


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
