"""Callbacks: hooks into a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.training.result import Metrics

if TYPE_CHECKING:
    from experiments.training.runner import Runner


class Callback:
    """Three hooks into a training, and its own state for going on later; override what is needed.

    Args:
        watches: figures of an epoch that it needs; that there are such is seen to before the run begins.
        adds: figures that `on_epoch_end` adds to those of the epoch, for callbacks after it.
    """

    watches: Sequence[str] = ()
    adds: Sequence[str] = ()

    def on_fit_start(self, runner: Runner) -> None:
        """Before the first step, after the first evaluation; not where a training goes on."""

    def on_epoch_end(self, runner: Runner, epoch: int, figures: Metrics) -> None:
        """After each epoch's evaluation; figures added to `figures` are recorded with it."""

    def on_fit_end(self, runner: Runner) -> None:
        """After the last epoch; figures are recorded with `runner.record`."""

    def state_dict(self) -> dict[str, Any]:
        """What a training that goes on needs of it, as tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()`."""
