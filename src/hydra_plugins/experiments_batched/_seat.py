"""A training's place in a stack, and what it asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from experiments.training.meters import Sums
from experiments.training.result import Metrics
from experiments.training.runner import Runner

Layout = tuple[int, int]  # orders of the rows, models that share each


@dataclass(eq=False)
class Seat:
    """A training's place in a stack, and what it asks for.

    Args:
        runner: the training.
        slot: which of the stack's models it is.
        epoch: the epoch to be trained or evaluated.
        sums: of the epoch, or of the evaluation.
        weights: to be evaluated, by name; None to train.
        noise: torch's generators, which the stack draws from and leaves where the training continues.
        figures: the answer to an evaluation.
        problem: what the stack raised instead.
    """

    runner: Runner
    slot: int = 0
    epoch: int = 0
    sums: Sums = field(default_factory=lambda: Sums({}))
    weights: Mapping[str, Tensor] | None = None
    noise: list[Tensor] = field(default_factory=list)
    figures: Metrics = field(default_factory=dict)
    problem: BaseException | None = None

    def ask(self, epoch: int, sums: Sums, weights: Mapping[str, Tensor] | None = None) -> None:
        """Ask for an epoch's steps, or for an evaluation of these weights, added to these sums."""
        self.epoch, self.sums, self.weights, self.problem = epoch, sums, weights, None
        self.noise = generators(self.runner.device)

    @property
    def params(self) -> dict[str, Tensor]:
        """Its model's parameters by name."""
        return dict(self.runner.model.named_parameters())

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its model's parameters and buffers by name."""
        return self.params | dict(self.runner.model.named_buffers())

    @property
    def place(self) -> tuple[int, int]:
        """Where it is: those at one place are done together, since the models of a row have one order of the rows."""
        return (-1, 0) if self.weights is not None else (self.epoch, self.runner.progress.step)

    @property
    def saves_within(self) -> bool:
        """Whether its state is saved within an epoch."""
        kept = self.runner.checkpoints
        return kept is not None and (kept.every_steps is not None or kept.every_seconds is not None)

    def due(self, step: int) -> bool:
        """Return whether its state is to be saved after so many steps of the epoch."""
        checkpoints, steps = self.runner.checkpoints, self.runner.steps
        return step < steps and checkpoints is not None and checkpoints.due_after_step(self.epoch * steps + step)

    def numbers(self, names: Sequence[str]) -> list[float]:
        """Return these arguments of its loss."""
        keywords = getattr(self.runner.step.forward.loss, "keywords", {})
        return [float(keywords[name]) for name in names]


@contextlib.contextmanager
def own_problems(seat: Seat) -> Iterator[None]:
    """Have what a training's metrics or scheduler raise be its own problem, and not that of the others."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # of the user's code
        seat.problem = seat.problem or error


def generators(device: torch.device) -> list[Tensor]:
    """Return the state of torch's generators that a training on this device draws from."""
    found = [torch.get_rng_state()]
    return [*found, torch.cuda.get_rng_state(device)] if device.type == "cuda" else found


def set_generators(states: Sequence[Tensor], device: torch.device) -> None:
    """Continue torch's generators from these states."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
