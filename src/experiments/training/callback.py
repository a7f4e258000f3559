"""Callbacks: hooks into a training, and what of it they may use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from experiments.data.batches import Batches
from experiments.training.result import Metrics


class Training(Protocol):
    """A training as its callbacks see it."""

    train: Batches
    valid: Batches
    folder: Path | None  # where files may be left; None for nowhere
    history: list[Metrics]  # the figures of each epoch so far

    @property
    def record(self) -> Callable[[Metrics, int], None]:
        """What is called with figures and their step, the epoch."""

    @property
    def model(self) -> Any:
        """The model, on the training's device."""

    @property
    def loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(pred, target) -> scalar mean."""

    @property
    def optimizer(self) -> Any:
        """The optimiser."""

    @property
    def device(self) -> torch.device:
        """Where batches are wanted."""

    @property
    def steps(self) -> int:
        """Training steps of one epoch."""

    @property
    def stopped(self) -> str:
        """Why the training ends after this epoch; empty where it does not."""

    def predict(self, xb: Tensor) -> Tensor:
        """The model's output for a batch on its device, as in evaluation."""

    def evaluate(self, epoch: int, batches: Batches | None = None) -> Metrics:
        """The loss and the metrics over the validation rows, or other batches."""

    def stop(self, reason: str) -> None:
        """End the training after this epoch."""


class Callback:
    """Three hooks into a training, and its own state for resuming; override what is needed.

    Args:
        watches: figures of an epoch that it needs; checked before the run starts.
        adds: figures that `on_epoch_end` adds to those of the epoch, for callbacks after it.
    """

    watches: Sequence[str] = ()
    adds: Sequence[str] = ()

    def on_fit_start(self, runner: Training) -> None:
        """Before the first step, after the first evaluation; not where a training resumes."""

    def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
        """After each epoch's evaluation; figures added to `figures` are recorded with it."""

    def on_fit_end(self, runner: Training) -> None:
        """After the last epoch; figures are recorded with `runner.record`."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs of it, as tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`."""
