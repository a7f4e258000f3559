"""A training that takes its steps in a stack, and whose own everything else is: callbacks, records, checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import vmap

from experiments import live
from experiments.config.registry import register
from experiments.config.root import RootConfig
from experiments.data.batches import Batches
from experiments.data.tensors import is_arrays
from experiments.errors import ConfigError, Fault
from experiments.runs.find import find_run
from experiments.training import hooks, weights
from experiments.training.meters import Sums
from experiments.training.result import Metrics
from experiments.training.runner import Runner
from experiments.training.step import EagerStep
from hydra_plugins.experiments_batched._seat import Layout, Seat, set_generators
from hydra_plugins.experiments_batched._stack import Stack

KEY = "device.batched"

Meeting = Callable[[Seat], None]  # has a stack do what a seat asks for, once the others have asked
# Of a job of the launcher: makes the meeting and takes the slot of its training. Each greenlet has its own.
PLACE: ContextVar[Callable[[Member], tuple[Meeting, int]] | None] = ContextVar("place", default=None)


@dataclasses.dataclass(kw_only=True)
class Member(Runner):
    """A runner whose epochs and evaluations are done in a stack."""

    meeting: Meeting = dataclasses.field(init=False)
    seat: Seat = dataclasses.field(init=False)

    @classmethod
    def of(cls, runner: Runner) -> Member:
        """Return a training of the same parts."""
        return cls(**{one.name: getattr(runner, one.name) for one in dataclasses.fields(Runner) if one.init})

    def train_epoch(self, epoch: int) -> tuple[Metrics, int]:
        """Train on all training rows; return the means, and the number of rows."""
        self.model.train()
        self._restore_noise()
        while self.progress.step < self.steps:
            self._meet(epoch, self.progress.sums)
            if self.stop_request.reason is not None:
                self._stop(self.stop_request.reason)
            if self.checkpoints is not None and self.checkpoints.due_after_step(self._steps_done(epoch)):
                self._save()
        self.step.update.raise_if_bad()
        return self.progress.sums.means(), self.progress.sums.rows

    def evaluate(self, epoch: int, batches: Batches | None = None, *, stoppable: bool = False) -> Metrics:
        """Return the loss and the metrics over the validation rows; a callback's evaluation is this training's own."""
        if batches is not None or not stoppable:
            return super().evaluate(epoch, batches)
        self.model.eval()
        with hooks.evaluation(self):
            taken = {name: value.detach().clone() for name, value in self.seat.tensors.items()}
        self._meet(epoch, self._sums(by_rows=self.mean_over == "samples"), taken)
        if self.stop_request.reason is not None:
            self._stop(self.stop_request.reason)
        return self.seat.figures

    def _meet(self, epoch: int, sums: Sums, taken: weights.State | None = None) -> None:
        seat = self.seat
        seat.ask(epoch, sums, taken)
        live.hide(self.bar)  # the stack has one for all
        self.meeting(seat)
        set_generators(seat.noise, self.device)
        if seat.problem is not None:
            raise seat.problem


def joined(runner: Runner, root: RootConfig) -> Runner:
    """Return a training that takes its steps in a stack of `device.batched` models, alone if no launcher runs others.

    Raises:
        ConfigError: it cannot.
    """
    assert root.device.batched is not None
    if reason := fault(runner, root):
        raise ConfigError(Fault(KEY, f"{reason}; hydra/launcher=batched sets it for jobs that can be trained together"))
    member = Member.of(runner)
    if (place := PLACE.get()) is not None:
        member.meeting, slot = place(member)
    else:
        stack, slot = Stack(layout(root.device.batched), member, loss_numbers(runner)), 0
        stack.stopping = lambda: member.stop_request.reason is not None
        member.meeting = lambda seat: stack.answer([seat])
    member.seat = Seat(member, slot)
    return member


def layout(batched: str | int) -> Layout:
    """Return the layout that `device.batched` gives: orders x models, or a number of models each with its own order."""
    orders, _, sharing = str(batched).partition("x")
    return int(orders), int(sharing or 1)


def fault(runner: Runner, root: RootConfig) -> str:
    """Return why a training cannot take its steps in a stack; empty if it can, as far as it is known before a step."""
    forward, loader = runner.step.forward, register.loader.get(root.loader["name"])
    callbacks = [type(one).__name__ for one in hooks.having(runner, "on_step_end")]
    reasons = {
        f"the callback {', '.join(callbacks)} acts after each step": bool(callbacks),
        f"step {root.step['name']} is one of its own": type(runner.step) is not EagerStep,
        f"accumulate={root.accumulate} takes a step in parts": root.accumulate > 1,
        f"device.precision={root.device.precision}": root.device.precision not in ("fp32", "tf32"),
        "device.compile=true": root.device.compile,
        "device.graph=true": root.device.graph,
        "inspect looks into single steps": root.inspect.profile or root.inspect.breakpoint,
        f"model {root.model['name']} is not an nn.Module": not isinstance(forward.model, nn.Module),
        f"model {root.model['name']} takes derivatives": forward.gradients,
        f"loader {loader.name} may give other rows": not loader.factory.__module__.startswith("experiments."),
        "the dataset's items are read in each epoch": not (
            is_arrays(runner.train.split.dataset) or loader.metadata.get("reads_once")
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def trains_first(root: RootConfig) -> bool:
    """Return whether a stage is trained first, which `init_from` names."""
    name = root.init_from
    return name is not None and weights.named(name) is None and find_run(Path(root.output_root), name) is None


def loss_numbers(runner: Runner) -> Sequence[str]:
    """Return the loss's arguments of which each model of a stack may have its own: numbers that broadcast."""
    loss: Any = runner.step.forward.loss
    given = {key: value for key, value in getattr(loss, "keywords", {}).items() if type(value) is float}
    if not given:
        return ()
    xb, yb = runner.moved(next(runner.valid.epoch(0)))
    numbers = {key: torch.tensor([value], device=runner.device) for key, value in given.items()}
    runner.model.eval()
    try:
        with torch.no_grad():
            pred = runner.predict(xb)
            plain, stacked = loss(pred, yb), vmap(lambda own: loss(pred, yb, **own))(numbers)
        return tuple(given) if torch.allclose(stacked[0], plain, rtol=1e-4) else ()
    except (RuntimeError, ValueError, TypeError):  # it takes no tensors in their place, or returns several
        return ()
