"""Sweeps whose jobs are trained together, whatever a trial on a busy machine says of the gain."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.training.checkpoint import Checkpoints
from tests.support.commands import SMALL, Before, command, nothing
from tests.support.forked import Ended

TOGETHER = ("-m", "hydra/launcher=batched", *SMALL, "checkpoint.every_steps=null")


def swept(folder: Path, *arguments: str, before: Before = nothing) -> Ended:
    """A sweep of small runs, in a process of its own."""

    def both() -> None:
        at_any_gain()
        before()

    return command(*TOGETHER, f"hydra.sweep.dir={folder}", *arguments, before=both)


def at_any_gain() -> None:
    """Have every trial that shows the same losses be fast enough."""
    from hydra_plugins.experiments_batched import _trial

    _trial.FASTER = 0.0


def killed_at(step: int) -> Before:
    """Has a process kill itself within the so-manieth step of a stack after its trial."""
    return lambda: in_stack(step, lambda: os.kill(os.getpid(), signal.SIGKILL))


def killed_in_save(number: int) -> Before:
    """Has a process kill itself before the so-manieth state of a launched stack's trainings is saved."""

    def before() -> None:
        real, seen = Checkpoints.save, [0]

        def save(self: Any, *given: Any, **named: Any) -> None:
            seen[0] += 1
            if seen[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            real(self, *given, **named)

        Checkpoints.save = save  # type: ignore[method-assign]  # in a process that ends soon

    return before


def in_stack(step: int, action: Callable[[], Any]) -> None:
    """Do it in this process within the so-manieth step of a launched stack."""
    from hydra_plugins.experiments_batched import _crew, _stack

    real, seen = _stack.Stack._step, [0]

    def taken(self: Any, *given: Any) -> Any:
        seen[0] += 1
        if seen[0] == step:
            action()
        return real(self, *given)

    begin = _crew.Crew.run

    def run(self: Any, *given: Any) -> Any:
        _stack.Stack._step = taken  # type: ignore[assignment,method-assign]  # in a process that ends soon
        return begin(self, *given)

    _crew.Crew.run = run  # type: ignore[assignment,method-assign]  # likewise
