"""Killed at every step, inside every save and every line of the journal, a training goes on as if nothing was."""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.seeds import seed_noise
from experiments.tracking import journal
from experiments.tracking.journal import Journal
from experiments.training import runner as running
from experiments.training.checkpoint import Checkpoints
from experiments.training.runner import Runner
from tests.support import raw_journal
from tests.support.crashing import IN_A_LINE, IN_A_SAVE, crash_in_line, crash_in_save, crash_in_step
from tests.support.forked import Ended, forked
from tests.support.resuming import TIMED, alike, another_process, maker, outcome
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

EPOCHS, STEPS = 3, 4
TRAINING = ("optim=adam", "scheduler=one_cycle", "loader.batch_size=5", f"epochs={EPOCHS}")
LINES = 1 + 1 + EPOCHS  # start, untrained, the epochs; after the end there is nothing to go on with

Crash = Callable[[], None]


def job(runner: Runner, folder: Path) -> None:
    """A training of twelve steps, each saved, with its journal: begun, or gone on with."""
    begun = (folder / journal.FILE).exists()
    kept = Journal(folder, reopen=begun)
    kept.resume(changed={}) if begun else kept.start()
    runner.checkpoints, runner.record = Checkpoints(folder / "checkpoints", every_steps=1), kept.metrics
    runner.checkpoints.tidy()
    state = runner.checkpoints.newest()
    if state is not None:
        another_process()
        runner.load_state_dict(state)
    runner.fit(EPOCHS)
    torch.save(outcome(runner), folder / "outcome.pt")
    kept.end("FINISHED")


def figures(folder: Path) -> Counter[tuple[str, int, float]]:
    """Each figure of a journal, with its step, and how often it stands there; of those that measure time, no value."""
    found: Counter[tuple[str, int, float]] = Counter()
    for event in raw_journal.read(folder):
        for name, value in event.get("values", {}).items():
            found[name, event["step"], 0.0 if name in TIMED else value] += 1
    return found


class Matrix:
    """One training, undisturbed once, and killed and gone on with as often as is wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, maker(*TRAINING)()
        assert self.run("undisturbed").code == 0
        self.expected = self.came_to("undisturbed")

    def run(self, name: str, crash: Crash = lambda: None) -> Ended:
        def action() -> None:
            seed_noise(7)  # whatever the tests' own process has drawn
            crash()
            job(self.made, self.folder / name)

        return forked(action)

    def came_to(self, name: str) -> tuple[Any, Counter[tuple[str, int, float]]]:
        folder = self.folder / name
        return torch.load(folder / "outcome.pt", weights_only=True), figures(folder)

    def difference(self, name: str) -> str:
        """What a training came to that the undisturbed one did not; empty where there is nothing."""
        (found, series), (expected, whole) = self.came_to(name), self.expected
        if not alike(found, expected):
            return f"other are {[key for key in expected if not alike(found[key], expected[key])]}"
        if series != whole:
            return f"too much in the journal: {series - whole}, missing there: {whole - series}"
        left = list((self.folder / name).rglob("*.part"))
        return f"it left {left}" if left else ""

    def fault(self, name: str, crash: Crash) -> str | None:
        """What is wrong with a training that was killed and went on; None where it never got to where it dies."""
        if (ended := self.run(name, crash)).code == 0:
            return None
        if ended.code != -signal.SIGKILL:
            return f"it was not killed: {ended}"
        if (ended := self.run(name)).code != 0:
            return f"it did not go on: {ended}"
        return self.difference(name)

    def faults(self, name: str, crashes: Iterable[Crash]) -> list[str | None]:
        return [self.fault(f"{name} {number}", crash) for number, crash in enumerate(crashes)]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    return Matrix(tmp_path_factory.mktemp("matrix"))


def test_the_undisturbed_training_has_every_figure_once(matrix: Matrix) -> None:
    series = matrix.expected[1]
    assert set(series.values()) == {1}
    assert {step for name, step, _ in series if name == "train/loss"} == set(range(EPOCHS))
    assert not any(math.isnan(value) for _, _, value in series)


def test_killed_at_every_step_it_goes_on_as_if_nothing_was(matrix: Matrix) -> None:
    steps = range(1, EPOCHS * STEPS + 1)
    assert matrix.faults("step", [partial(crash_in_step, step) for step in steps]) == [""] * len(steps)


@pytest.mark.parametrize("first", range(2))
def test_killed_again_and_again_somewhere_in_a_save_it_goes_on_as_if_nothing_was(first: int, matrix: Matrix) -> None:
    places, name, died = list(IN_A_SAVE.values()), f"again and again {first}", 0
    # In its second save, else it would never get any further.
    while (ended := matrix.run(name, partial(crash_in_save, 2, places[(first + died) % len(places)]))).code != 0:
        assert ended.code == -signal.SIGKILL, ended
        died += 1
    assert died >= len(places)
    assert matrix.difference(name) == ""


@pytest.mark.slow
@pytest.mark.parametrize("place", IN_A_SAVE)
def test_killed_inside_every_save_it_goes_on_as_if_nothing_was(place: str, matrix: Matrix) -> None:
    saves, found = 0, []
    while (fault := matrix.fault(f"{place} {saves}", partial(crash_in_save, saves + 1, IN_A_SAVE[place]))) is not None:
        saves += 1
        found.append(fault)
    assert found == [""] * saves and saves > EPOCHS * (STEPS + 1)  # those of the best weights come on top


@pytest.mark.parametrize("place", [pytest.param(p, marks=() if "middle" in p else pytest.mark.slow) for p in IN_A_LINE])
def test_killed_inside_every_line_of_the_journal_it_goes_on_as_if_nothing_was(place: str, matrix: Matrix) -> None:
    crashes = [partial(crash_in_line, line, IN_A_LINE[place]) for line in range(1, LINES + 1)]
    assert matrix.faults(f"line {place}", crashes) == [""] * LINES


def test_a_training_that_goes_on_without_its_noise_is_found_out(
    matrix: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "restore_noise", lambda *_: None)
    fault = matrix.fault("without noise", partial(crash_in_step, 6))
    assert fault is not None and fault.startswith("other are ['model', ")


def test_a_journal_that_repeats_itself_is_found_out(matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Journal, values: dict[str, float], step: int) -> None:
        self._append("metrics", step=step, values=values)

    monkeypatch.setattr(Journal, "metrics", forgetful)
    fault = matrix.fault("repeating", partial(crash_in_line, 3, IN_A_LINE["after it is synced"]))
    assert fault is not None and fault.startswith("too much in the journal: Counter({('train/")
