"""Writing checkpoints: when, how many, whole or not at all, with whose permissions, and on a full disk."""

from __future__ import annotations

import errno
import gc
import json
import logging
import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.training import checkpoint
from experiments.training.callback import Callback, Training
from experiments.training.checkpoint import Checkpoints
from experiments.training.result import Metrics
from experiments.training.runner import Runner, weights_of
from tests.support.forked import forked
from tests.support.training import (
    make,
    one_thread,  # noqa: F401  # a fixture of every test here
    same,
)

EPOCHS, STEPS = 3, 4


class Noted(Checkpoints):
    """Notes where it saved, as (epoch, step)."""

    def __init__(self, folder: Path, **given: Any) -> None:
        super().__init__(folder, **given)
        self.places: list[tuple[int, int]] = []

    def save(self, state: checkpoint.State, *, epoch: int, step: int) -> None:
        self.places.append((epoch, step))
        super().save(state, epoch=epoch, step=step)


def train(checkpoints: Checkpoints, **given: Any) -> Runner:
    runner = make(checkpoints=checkpoints, limit_batches=STEPS, **given)
    runner.fit(EPOCHS)
    return runner


def places(tmp_path: Path, **given: Any) -> list[tuple[int, int]]:
    noted = Noted(tmp_path, **given)
    train(noted)
    return noted.places


def names(folder: Path) -> list[str]:
    return sorted(path.name.rpartition("-")[0] for path in folder.iterdir())


EVERY_EPOCH = [(1, 0), (2, 0), (3, 0)]


@pytest.mark.parametrize(("every", "expected"), [(1, EVERY_EPOCH), (2, [(2, 0)]), (3, [(3, 0)]), (None, [])])
def test_it_is_saved_after_every_so_many_epochs(
    every: int | None, expected: list[tuple[int, int]], tmp_path: Path
) -> None:
    assert places(tmp_path, every_epochs=every) == expected


@pytest.mark.parametrize(
    ("every", "expected"),
    [(3, [(0, 3), (1, 2), (2, 1), (2, 4)]), (5, [(1, 1), (2, 2)]), (4, [(0, 4), (1, 4), (2, 4)]), (13, [])],
)
def test_it_is_saved_after_every_so_many_steps_of_the_training(
    every: int, expected: list[tuple[int, int]], tmp_path: Path
) -> None:
    assert places(tmp_path, every_epochs=None, every_steps=every) == expected


def test_it_is_saved_once_so_many_seconds_have_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("experiments.training.checkpoint.time.monotonic", lambda: clock[0])

    class Slow(Callback):
        def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
            clock[0] += 7.0

    noted = Noted(tmp_path, every_epochs=None, every_seconds=10.0)
    train(noted, callbacks=[Slow()])
    assert noted.places == [(2, 0)]


def test_zero_seconds_pass_with_every_step_and_epoch(tmp_path: Path) -> None:
    expected = [(epoch, step) for epoch in range(EPOCHS) for step in range(1, STEPS + 1)] + EVERY_EPOCH
    assert places(tmp_path, every_epochs=None, every_seconds=0.0) == sorted(expected)


def test_saving_changes_no_bit_of_the_training(tmp_path: Path) -> None:
    plain = make(limit_batches=STEPS)
    plain.fit(EPOCHS)
    assert same(weights_of(train(Checkpoints(tmp_path, every_steps=1)).model), weights_of(plain.model))


def test_two_newest_and_one_best_are_kept(tmp_path: Path) -> None:
    train(Checkpoints(tmp_path, every_steps=1), callbacks=[losing(3, 2, 1)])
    assert names(tmp_path) == ["best-00002-000000", "last-00002-000004", "last-00003-000000"]


def losing(*losses: float) -> Callback:
    """Has the epochs end with these validation losses."""

    class Losing(Callback):
        def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
            figures["valid/loss"] = losses[epoch]
            figures["best/valid_loss"] = min(loss for loss in losses[: epoch + 1] if loss == loss)

    return Losing()


@pytest.mark.parametrize(
    ("losses", "best"), [((3, 1, 2), 1), ((1, 2, 3), 0), ((3, 2, 1), 2), ((1, 1, 1), 0), ((2, float("nan"), 1), 2)]
)
def test_the_best_is_the_epoch_that_the_result_calls_best(losses: tuple[float, ...], best: int, tmp_path: Path) -> None:
    runner = make(checkpoints=Checkpoints(tmp_path), callbacks=[losing(*losses)], limit_batches=1)
    assert runner.fit(EPOCHS).best_epoch == best
    assert names(tmp_path)[0] == f"best-{best:05d}-000000"


def test_the_best_weights_are_those_of_their_epoch(tmp_path: Path) -> None:
    train(Checkpoints(tmp_path), callbacks=[losing(3, 1, 2)])
    two_epochs = make(limit_batches=STEPS)
    two_epochs.fit(2)
    (path,) = tmp_path.glob("best-*.pt")
    assert same(torch.load(path, weights_only=True), weights_of(two_epochs.model))


def test_without_best_none_is_kept(tmp_path: Path) -> None:
    train(Checkpoints(tmp_path, best=False))
    assert names(tmp_path) == ["last-00002-000000", "last-00003-000000"]


def test_nothing_is_made_before_the_first_is_due(tmp_path: Path) -> None:
    train(Checkpoints(tmp_path / "checkpoints", every_epochs=None, best=False))
    assert not (tmp_path / "checkpoints").exists()


def test_what_a_dead_process_left_half_written_is_tidied_and_nothing_else(tmp_path: Path) -> None:
    train(Checkpoints(tmp_path))
    before = names(tmp_path)
    (tmp_path / "last-00003-000001-0123456789abcdef.pt.x7f.part").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    Checkpoints(tmp_path).tidy()
    assert names(tmp_path) == sorted([*before, ""])


def test_a_run_that_never_saved_is_tidied_as_well(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "none").tidy()


@pytest.fixture(params=[0o022, 0o077, 0o027])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_permissions_are_those_of_any_file_of_the_user(umask: int, tmp_path: Path) -> None:
    train(Checkpoints(tmp_path))
    assert {mode(path) for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_the_umask_is_left_as_it_was(umask: int, tmp_path: Path) -> None:
    train(Checkpoints(tmp_path))
    assert os.umask(umask) == umask


def test_while_it_is_written_nobody_else_can_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            seen.append(stat.S_IMODE(os.fstat(handle).st_mode))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    Checkpoints(tmp_path).save({}, epoch=1, step=0)
    assert seen == [0o600]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_written(path: Path, content: bytes) -> int:
    with path.open("wb") as file:
        file.write(content[: len(content) // 2])
    full()
    return 0


# What a full disk refuses, and until when: (the call, what it does instead).
REFUSED: dict[str, tuple[str, Callable[..., Any]]] = {
    "to make a file": ("tempfile.mkstemp", lambda **_: full()),
    "half of the content": ("pathlib.Path.write_bytes", half_written),
    "to sync": ("os.fsync", full),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
class TestFullDisk:
    """The disk is full while the second of three epochs is saved."""

    @pytest.fixture
    def training(
        self, refused: tuple[str, Callable[..., Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., Runner]:
        class Full(Callback):
            def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
                monkeypatch.undo()
                if epoch == 1:
                    monkeypatch.setattr(*refused)

        def fit(epochs: int) -> Runner:
            runner = make(checkpoints=Checkpoints(tmp_path), callbacks=[losing(3, 2, 1), Full()], limit_batches=STEPS)
            runner.fit(epochs)
            monkeypatch.undo()
            return runner

        return fit

    def test_a_warning_names_the_file_and_the_bytes_it_needs(
        self, training: Callable[..., Runner], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        training(2)
        best, last = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert last.startswith(f"no checkpoint at epoch 2, step 0: {tmp_path}/last-00002-000000-")
        assert best.startswith(f"no checkpoint at epoch 1, step 0: {tmp_path}/best-00001-000000-")
        size = next(tmp_path.glob("last-00001-*.pt")).stat().st_size
        needed = int(last.partition(" needs ")[2].partition(" bytes")[0].replace(",", ""))
        assert size <= needed < 2 * size and "No space left on device" in last

    def test_those_before_are_as_they_were_and_nothing_half_written_is_left(
        self, training: Callable[..., Runner], tmp_path: Path
    ) -> None:
        training(2)
        assert names(tmp_path) == ["best-00000-000000", "last-00001-000000"]
        found = Checkpoints(tmp_path).newest()
        assert found is not None and len(json.loads(found["history"])) == 1

    def test_the_training_goes_on_and_the_next_is_saved(self, training: Callable[..., Runner], tmp_path: Path) -> None:
        runner = training(3)
        assert names(tmp_path) == ["best-00002-000000", "last-00001-000000", "last-00003-000000"]
        found = Checkpoints(tmp_path).newest()
        assert found is not None and same(found["model"], weights_of(runner.model))


def test_a_limit_of_the_system_is_as_a_full_disk(tmp_path: Path) -> None:
    def limited() -> None:
        logging.basicConfig(format="%(message)s")
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save({"size": torch.ones(5000)}, epoch=1, step=0)
        checkpoints.save({"size": torch.ones(1)}, epoch=2, step=0)

    done = forked(limited)
    assert done.code == 0 and "File too large" in done.err
    assert names(tmp_path) == ["last-00002-000000"]


def test_many_saves_pile_up_no_garbage(tmp_path: Path) -> None:
    checkpoints, state = Checkpoints(tmp_path), {"tensor": torch.zeros(3)}
    gc.collect()
    gc.disable()
    try:
        for epoch in range(checkpoint.LOOK_EACH):
            checkpoints.save(state, epoch=epoch, step=0)
        assert gc.collect() < checkpoint.LOOK_EACH  # what earlier tests left may be among it
    finally:
        gc.enable()
