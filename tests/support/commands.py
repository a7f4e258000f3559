"""Runs as commands make them, small, in processes of their own, each step of them saved; and what they came to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import experiments
from experiments import __main__ as command_line
from experiments import api, resume
from experiments.seeds import noise_state
from experiments.training.result import Result
from experiments.training.runner import Runner
from experiments.training.update import Update
from tests.support import raw_journal
from tests.support.forked import Ended, forked
from tests.support.resuming import TIMED, alike

EPOCHS, STEPS = 3, 4
SMALL = (
    *("dataset=synthetic", "dataset.shape=[1,4,4]", "dataset.classes=3", "dataset.train=16", "dataset.valid=6"),
    *("loader.batch_size=4", "model=mlp", "model.width=6", "model.dropout=0.5", "transforms=random_shift"),
    *("optim=adam", f"epochs={EPOCHS}", "checkpoint.every_steps=1", "tracking=none", "figures=false"),
)
NOISE = "noise.pt"

Before = Callable[[], Any]


def nothing() -> None:
    """Does nothing."""


def begin(folder: Path, *overrides: str, before: Before = nothing) -> Ended:
    """A run from Python, in its own process, after `before` has been done there."""

    def action() -> None:
        before()
        keep_noise(folder)
        experiments.run([*SMALL, f"hydra.run.dir={folder}", *overrides])

    return forked(action)


def go_on(folder: Path, *overrides: str, before: Before = nothing) -> Ended:
    def action() -> None:
        before()
        keep_noise(folder)
        api.resume(folder, overrides)

    return forked(action)


def keep_noise(folder: Path) -> None:
    """Have this process's training leave in its folder where the noise stream is at its end."""
    real = Runner.fit

    def fit(self: Runner, epochs: int, **handed: Any) -> Result:
        result = real(self, epochs, **handed)
        torch.save(noise_state(torch.device("cpu")), folder / NOISE)
        return result

    Runner.fit = fit  # type: ignore[method-assign]  # in a process that ends soon


def resumed(folder: Path | str, *overrides: str, before: Before = nothing) -> Ended:
    """`python -m experiments.resume FOLDER OVERRIDE ...`."""

    def action() -> None:
        before()
        resume.main([str(folder), *overrides])

    return forked(action)


def command(*arguments: str, before: Before = nothing) -> Ended:
    """`python -m experiments ARGUMENT ...`."""

    def action() -> None:
        import sys

        before()
        sys.argv = ["experiments", *arguments]
        command_line.main()

    return forked(action)


def at_step(number: int, action: Callable[[], Any]) -> None:
    """Do it in this process within the so-manieth step, before the update."""
    real, seen = Update.__call__, [0]

    def update(self: Update, *args: Any) -> None:
        seen[0] += 1
        if seen[0] == number:
            action()
        real(self, *args)

    Update.__call__ = update  # type: ignore[method-assign,assignment]  # in a process that ends soon


def signalled(number: int, *signals: int) -> Before:
    """Has a process send itself these, one after the other, within the so-manieth step."""

    def send() -> None:
        for one in signals:
            os.kill(os.getpid(), one)

    return lambda: at_step(number, send)


def came_to(folder: Path) -> dict[str, Any]:
    """The weights, the figures with their steps, how often each stands there, and the noise if it was kept."""
    figures = [
        (name, event["step"], None if name in TIMED else value)
        for event in raw_journal.read(folder)
        for name, value in event.get("values", {}).items()
    ]
    noise = torch.load(folder / NOISE, weights_only=True) if (folder / NOISE).exists() else None
    weights = torch.load(folder / "weights.pt", weights_only=True)
    return {"weights": weights, "figures": sorted(figures), "noise": noise}


def same_run(one: Path, other: Path) -> bool:
    """Whether two runs came to the same, bit for bit."""
    return alike(came_to(one), came_to(other))


def status(folder: Path) -> str:
    return str(raw_journal.summary(folder)["status"])
