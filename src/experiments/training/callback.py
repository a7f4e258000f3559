"""Callbacks: hooks into a training, and what they may use of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from experiments.data.batches import Batches
from experiments.data.nested import Nested
from experiments.errors import RegistrationError, suggestion
from experiments.training.result import Metrics


class Training(Protocol):
    """A training as its callbacks see it."""

    train: Batches
    valid: Batches
    model: Any  # on `device`
    loss: Callable[[Nested, Nested], Tensor]  # (pred, target) -> scalar mean
    optimizer: Any
    params: Sequence[Tensor]  # that the optimiser updates
    device: torch.device
    steps: int  # of one epoch
    folder: Path | None  # where files may be written; None for nowhere
    history: list[Metrics]  # the metrics of each epoch so far
    record: Callable[[Metrics, int], None]  # records metrics at a step, the epoch
    stopped: str  # why the training stops after this epoch; empty where it does not

    def prepared(self, xb: Nested) -> Nested:
        """Return a batch on the device, after the transforms of evaluation."""

    def predict(self, xb: Nested) -> Nested:
        """Return the model's output for a batch on its device, as in evaluation."""

    def evaluate(self, epoch: int, batches: Batches | None = None) -> Metrics:
        """Return the loss and the metrics over the validation rows, or other batches."""

    def stop(self, reason: str) -> None:
        """Stop the training after this epoch."""


def _callable_with(hook: Any, arguments: Iterable[str]) -> bool:
    try:
        return not inspect.isfunction(hook) or bool(inspect.signature(hook).bind(*arguments))
    except TypeError:
        return False


class Callback:
    """Hooks into a training, and a state for resuming; override what is needed, the others cost nothing.

    Args:
        watches: metrics of an epoch that it needs; checked before the run starts.
        adds: metrics that `on_epoch_end` adds to those of the epoch, for callbacks after it.
    """

    watches: Sequence[str] = ()
    adds: Sequence[str] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        """Check the hooks of a subclass.

        Raises:
            RegistrationError: one does not exist, and so would never be called, or does not take what it is passed.
        """
        super().__init_subclass__(**options)
        hooks = {name: inspect.signature(hook) for name, hook in vars(Callback).items() if name.startswith("on_")}
        faults = []
        for name in (name for name in dir(cls) if name.startswith("on_")):
            if name not in hooks:
                faults.append(f"has no hook called {name}{suggestion(name, hooks)}")
            elif not _callable_with(inspect.getattr_static(cls, name), hooks[name].parameters):
                faults.append(f"has {name}, which should take ({', '.join(hooks[name].parameters)})")
        if faults:
            raise RegistrationError(f"callback {cls.__name__} {'; '.join(faults)}")

    def on_begin(self, runner: Training) -> None:
        """Run before all else, and where a training resumes, after its state is restored: the place for hooks."""

    def on_fit_start(self, runner: Training) -> None:
        """Run before the first step, after the first evaluation; not where a training resumes."""

    def on_step_end(self, runner: Training, step: int) -> None:
        """Run after each update, in training mode; `step` counts from 0 through the whole training."""

    def on_evaluation(self, runner: Training) -> AbstractContextManager[Any]:  # noqa: ARG002  # the hook's signature
        """Return a context for evaluation, in which the model may have other weights, such as an average.

        Evaluation, `on_epoch_end` and the best weights use it, and the finished model gets the weights inside it.
        """
        return nullcontext()

    def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
        """Run after each epoch's evaluation, with its weights; metrics added to `figures` are recorded with it."""

    def on_fit_end(self, runner: Training) -> None:
        """Run after the last epoch; record metrics with `runner.record`."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs of it, as tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`."""
