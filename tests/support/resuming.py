"""Trainings that are interrupted somewhere and go on elsewhere, and what they came to, to be compared bit for bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments import seeds
from experiments.components.datasets.synthetic import synthetic
from experiments.config.check import configured
from experiments.config.root import RootConfig
from experiments.data.splits import Splits
from experiments.seeds import noise_state
from experiments.training import build
from experiments.training.checkpoint import Checkpoints
from experiments.training.result import Metrics
from experiments.training.runner import Runner
from tests.support.training import replace_loss

TIMED = ("time/epoch_seconds", "throughput/samples_per_second")
EPOCHS = 2
SMALL = synthetic(shape=[1, 4, 4], classes=3, train=20, valid=10)
BASE = (
    *("dataset=synthetic", "device=cpu", "loader.batch_size=8", "loader.valid_batch_size=6", f"epochs={EPOCHS}"),
    *("transforms=random_shift", "loader.shuffle=true"),
)
MLP = ("model=mlp", "model.width=6", "model.dropout=0.5")

Make = Callable[[], Runner]
Point = tuple[str, int]


@cache
def checked(*overrides: str) -> RootConfig:
    return configured([*BASE, *overrides]).root


def maker(*overrides: str, splits: Splits = SMALL, model: Sequence[str] = MLP) -> Make:
    """Makes the same training each time."""
    root = checked(*model, *overrides)

    def make() -> Runner:
        streams = seeds.derive(root.seed, {})
        model = build.build_model(root, splits.spec, streams)
        device = torch.device("cpu")
        return build.assemble(root, splits=splits, model=model, device=device, seeds=streams, folder=None)

    return make


def outcome(runner: Runner) -> dict[str, Any]:
    """All that a training came to but for the time it took, and where the noise streams are now."""
    state = runner.state_dict()
    del state["progress"]
    state["history"] = untimed(runner.history)
    return state | {"noise": noise_state(runner.device)}


def untimed(history: list[Metrics]) -> list[Metrics]:
    return [{name: value for name, value in figures.items() if name not in TIMED} for figures in history]


def undisturbed(make: Make, epochs: int = EPOCHS) -> dict[str, Any]:
    runner = make()
    runner.fit(epochs)
    return outcome(runner)


def points(make: Make, epochs: int = EPOCHS) -> list[Point]:
    """Where a training may be interrupted: during every batch of training and evaluation, and after every epoch."""
    runner, seen, ends = make(), [0], [0]
    real = runner.loss

    def counting(pred: Tensor, target: Tensor) -> Tensor:
        seen[0] += 1
        return real(pred, target)

    replace_loss(runner, counting)
    runner.record = lambda figures, step: ends.extend([seen[0]] * ("train/loss" in figures))
    runner.fit(epochs)
    batches = [("batch", number) for number in range(1, ends[-1] + 1)]
    return batches + [("epoch", number) for number in range(len(runner.history))]


def interrupt(runner: Runner, point: Point) -> None:
    """Have a training end there, as a signal at that time would."""
    kind, at = point
    loss, record, seen = runner.loss, runner.record, [0]

    def counting(pred: Tensor, target: Tensor) -> Tensor:
        seen[0] += 1
        if kind == "batch" and seen[0] == at:
            runner.stop_request.reason = KeyboardInterrupt()
        return loss(pred, target)

    def recording(figures: Metrics, step: int) -> None:
        record(figures, step)
        if kind == "epoch" and step == at and "train/loss" in figures:
            runner.stop_request.reason = KeyboardInterrupt()

    replace_loss(runner, counting)
    runner.record = recording


def another_process() -> None:
    """Leave the random streams as nobody expects them."""
    torch.manual_seed(4321)
    np.random.seed(4322)
    random.seed(4323)


def gone_on(make: Make, point: Point, folder: Path, epochs: int = EPOCHS) -> Runner:
    """A training that was interrupted there and went on from its file, in a runner of its own."""
    first = make()
    first.checkpoints = Checkpoints(folder, every_epochs=None, best=False)
    interrupt(first, point)
    with pytest.raises(KeyboardInterrupt):
        first.fit(epochs)
    second = make()
    state = Checkpoints(folder).newest()
    if state is not None:  # it had not begun
        another_process()
        second.load_state_dict(state)
    second.fit(epochs)
    return second


def different(make: Make, folder: Path, epochs: int = EPOCHS) -> list[Point]:
    """The points after which a training that went on came to something else than the undisturbed one."""
    expected = undisturbed(make, epochs)
    return [
        point
        for point in points(make, epochs)
        if not alike(outcome(gone_on(make, point, folder / "-".join(map(str, point)), epochs)), expected)
    ]


def alike(one: Any, other: Any) -> bool:
    """Whether two trees of tensors and plain values are the same, bit for bit."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(alike(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(alike(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other) or (one != one and other != other)
