"""A training that was interrupted anywhere and goes on comes to what it would have come to, bit for bit.

Every registered optimiser with every scheduler, every loader, callback and model, with dropout and with augmentation;
the control at the end shows that each part of the state is needed.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from experiments.components.datasets.synthetic import synthetic
from experiments.config.registry import register
from experiments.data.splits import Splits
from experiments.training import meters
from experiments.training import runner as running
from experiments.training.callback import Callback, Training
from experiments.training.checkpoint import Checkpoints
from experiments.training.result import Metrics
from experiments.training.runner import Runner, weights_of
from tests.support.models import IMAGES
from tests.support.resuming import EPOCHS, alike, different, gone_on, interrupt, maker, outcome, points, undisturbed
from tests.support.training import (
    on_a_device,
    one_thread,  # noqa: F401  # a fixture of every test here
    same,
)

PAIRS = [
    (optim, scheduler)
    for optim in register.optim.names
    for scheduler in register.scheduler.names
    if optim != "by_hand" or scheduler == "constant"  # the others steer an optimiser of torch
]
FEW = ("limit_batches=2", "loader.valid_batch_size=10")  # where there are many of them: two steps, one evaluation
MOMENTUM = {"sgd": ["optim.momentum=0.9", "optim.weight_decay=0.01"], "lbfgs": ["optim.max_iter=2"]}
CALLBACKS = {"early_stopping": ["callbacks.early_stopping.patience=1", "optim.lr=3.0"]}


@pytest.mark.parametrize(
    ("optim", "scheduler"),
    [pytest.param(*pair, id="-".join(pair), marks=pytest.mark.slow if pair[0] == "adamw" else ()) for pair in PAIRS],
)
def test_it_goes_on_with_every_optimiser_and_scheduler(optim: str, scheduler: str, tmp_path: Path) -> None:
    make = maker(f"optim={optim}", f"scheduler={scheduler}", *MOMENTUM.get(optim, []), *FEW)
    assert different(make, tmp_path) == []


@pytest.mark.parametrize("loader", register.loader.names)
def test_it_goes_on_with_every_loader(loader: str, tmp_path: Path) -> None:
    assert different(maker(f"loader={loader}"), tmp_path) == []


@pytest.mark.parametrize("callback", register.callback.names)
def test_it_goes_on_with_every_callback(callback: str, tmp_path: Path) -> None:
    make = maker(f"callbacks={callback}", *CALLBACKS.get(callback, []))
    assert different(make, tmp_path, epochs=3) == []


def test_early_stopping_does_stop_in_the_test_above() -> None:
    runner = maker("callbacks=early_stopping", *CALLBACKS["early_stopping"])()
    assert runner.fit(3).stopped


def test_it_goes_on_from_a_history_as_schema_1_kept_it() -> None:
    first, second = maker()(), maker()()
    first.fit(1)
    second.load_state_dict(first.state_dict() | {"history": first.history})
    first.fit(EPOCHS)
    second.fit(EPOCHS)
    assert alike(outcome(second), outcome(first))


def test_a_checkpoint_has_as_many_objects_after_many_epochs() -> None:
    class Counting(pickle.Pickler):
        objects = 0

        def persistent_id(self, obj: object) -> None:
            self.objects += 1

    runner, counts = maker("limit_batches=1")(), []
    for epochs in (2, 12):
        runner.fit(epochs)
        pickler = Counting(io.BytesIO())
        pickler.dump(runner.state_dict())
        counts.append(pickler.objects)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    "model",
    [pytest.param(n, marks=pytest.mark.slow if n.startswith(("cnn", "logistic_")) else ()) for n in IMAGES],
)
def test_it_goes_on_with_every_model(model: str, tmp_path: Path) -> None:
    splits = synthetic(shape=[1, 28, 28], classes=3, train=20, valid=10)
    loss = "nll_by_hand" if register.model.get(model).metadata.get("output") == "log_probabilities" else "cross_entropy"
    make = maker(f"loss={loss}", "optim.lr=0.01", *FEW, splits=splits, model=[f"model={model}"])
    assert different(make, tmp_path) == []


@pytest.mark.parametrize(
    "setting",
    [
        *("max_grad_norm=0.1", "evaluation.mean=batches"),
        *(pytest.param(s, marks=pytest.mark.slow) for s in ("limit_batches=2", "metrics=none", "loader.shuffle=false")),
    ],
)
def test_it_goes_on_with_every_setting_of_the_loop(setting: str, tmp_path: Path) -> None:
    assert different(maker(setting), tmp_path) == []


def test_it_goes_on_in_the_middle_of_what_is_pooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "POOLED", 2)
    assert different(maker("optim=sgd"), tmp_path) == []


def test_it_goes_on_where_nothing_waits_for_the_device(tmp_path: Path) -> None:
    plain = maker("optim=adam")
    assert different(lambda: on_a_device(plain()), tmp_path) == []


def test_it_may_be_interrupted_again_and_again(tmp_path: Path) -> None:
    make = maker("optim=adam", "scheduler=one_cycle")
    processes = 0
    while True:
        runner = make()
        runner.checkpoints = Checkpoints(tmp_path)
        state = runner.checkpoints.newest()
        if state is not None:
            runner.load_state_dict(state)
        interrupt(runner, ("batch", 3))  # more than an evaluation has, else it would never get any further
        processes += 1
        with contextlib.suppress(KeyboardInterrupt):
            runner.fit(EPOCHS)
            break
    assert processes == 5 and alike(outcome(runner), undisturbed(make))


class Noisy(Dataset[Any]):
    """A user's own: each item differs each time, by all three generators."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.rand(1, 4, 4) + np.random.rand() + random.random()
        return noise + index % 3, index % 3


def noisy(*overrides: str) -> Callable[[], Runner]:
    splits = Splits.of(train=Noisy(20), valid=Noisy(10), classes=3, digest="noisy")
    return maker(*overrides, splits=splits)


@pytest.mark.parametrize("loader", ["dataloader", pytest.param("wrapped_dataloader", marks=pytest.mark.slow)])
def test_it_goes_on_with_a_dataset_that_draws_random_numbers(loader: str, tmp_path: Path) -> None:
    assert different(noisy(f"loader={loader}"), tmp_path) == []


@pytest.mark.slow
def test_it_goes_on_with_worker_processes_that_draw_random_numbers(tmp_path: Path) -> None:
    assert different(noisy("loader=dataloader", "loader.num_workers=2"), tmp_path) == []


def test_a_dataset_of_random_numbers_does_differ_from_epoch_to_epoch() -> None:
    train = noisy("loader=dataloader", "loader.shuffle=false")().train
    first, second = ([xb for xb, _ in train.epoch(0)] for _ in range(2))
    assert not alike(first, second)


class Measuring(Callback):
    """Asks for an evaluation of its own."""

    def on_fit_start(self, runner: Training) -> None:
        runner.evaluate(0)

    def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
        figures["again"] = runner.evaluate(epoch)["loss"]


def test_it_goes_on_from_within_an_evaluation_of_a_callback(tmp_path: Path) -> None:
    make = maker("scheduler=step", "scheduler.every=1")

    def measured() -> Runner:
        runner = make()
        runner.callbacks = [Measuring()]
        return runner

    assert different(measured, tmp_path) == []


def test_a_figure_of_numpy_can_be_gone_on_from(tmp_path: Path) -> None:
    class Mean(Callback):
        def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
            figures["mean"] = np.mean([1.0, 2.0])  # type: ignore[assignment]  # as users do

    runner = maker()()
    runner.callbacks, runner.checkpoints = [Mean()], Checkpoints(tmp_path)
    runner.fit(1)
    state = Checkpoints(tmp_path).newest()
    assert state is not None and json.loads(state["history"])[0]["mean"] == 1.5


def test_a_longer_training_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    make = maker("optim=adam", "scheduler=step")
    shorter, longer = make(), make()
    shorter.checkpoints = Checkpoints(tmp_path)
    shorter.fit(EPOCHS)
    state = Checkpoints(tmp_path).newest()
    assert state is not None
    longer.load_state_dict(state)
    longer.fit(EPOCHS + 2)
    assert alike(outcome(longer), undisturbed(make, EPOCHS + 2))


def test_the_time_of_an_epoch_counts_what_was_spent_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr("experiments.training.meters.time.perf_counter", lambda: float(next(clock)))
    runner = gone_on(maker(), ("batch", 4), tmp_path, epochs=1)
    # 10 to its state's saving, and 10 to its end.
    assert runner.history[0]["time/epoch_seconds"] == 20.0


# Each part of the state, and how it is not put back.
PARTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "noise": lambda patch: patch.setattr(running, "restore_noise", lambda *_: None),
    "optimiser": lambda patch: patch.setattr(torch.optim.Adam, "load_state_dict", lambda *_: None),
    "scheduler": lambda patch: patch.setattr(torch.optim.lr_scheduler.OneCycleLR, "load_state_dict", lambda *_: None),
    "model": lambda patch: patch.setattr(torch.nn.Module, "load_state_dict", lambda *_: None),
    "sums": lambda patch: patch.setattr(meters.Sums, "load_state_dict", lambda *_: None),
}


@pytest.mark.parametrize("part", PARTS)
def test_without_a_part_of_the_state_it_comes_to_something_else(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = maker("optim=adam", "scheduler=one_cycle")
    expected = undisturbed(make)
    PARTS[part](monkeypatch)
    assert not alike(outcome(gone_on(make, ("batch", 4), tmp_path)), expected)


def test_the_points_are_all_batches_and_epochs() -> None:
    evaluation, training = 2, 3
    batches = evaluation + EPOCHS * (training + evaluation)
    expected = [("batch", number) for number in range(1, batches + 1)] + [("epoch", n) for n in range(EPOCHS)]
    assert points(maker()) == expected


def test_what_is_alike_is_so_in_every_bit() -> None:
    one = {"a": [torch.zeros(2)], "b": (1.0, float("nan"))}
    assert alike(one, {"a": [torch.zeros(2)], "b": (1.0, float("nan"))})
    assert not alike(one, {"a": [torch.tensor([0.0, 1e-45])], "b": (1.0, float("nan"))})
    assert not alike(one, {"a": [torch.zeros(2)], "b": (1.0, 2.0)})


def test_a_training_that_went_on_has_moved_its_weights(tmp_path: Path) -> None:
    runner = gone_on(maker(), ("batch", 4), tmp_path)
    assert not same(weights_of(runner.model), weights_of(maker()().model))
