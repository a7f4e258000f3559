"""A run that is killed as a whole, from Python and on the command line, goes on as if nothing was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import experiments
from experiments.training.checkpoint import FOLDER
from tests.support import raw_journal
from tests.support.commands import EPOCHS, SMALL, STEPS, at_step, begin, go_on, same_run, status
from tests.support.forked import kill
from tests.support.places import Cli
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

QUICK = (1, 6, EPOCHS * STEPS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    # In this process: the processes that are forked off it then have all that is imported late.
    experiments.run([*SMALL, f"hydra.run.dir={folder / 'first'}"])
    assert begin(folder / "run").code == 0
    return folder / "run"


@pytest.mark.parametrize(
    "step",
    [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in range(1, EPOCHS * STEPS + 1)],
)
def test_a_run_that_is_killed_at_any_step_goes_on_as_if_nothing_was(
    step: int, undisturbed: Path, workplace: Path
) -> None:
    folder = workplace / "run"
    assert begin(folder, before=partial(at_step, step, kill)).code == -signal.SIGKILL
    assert status(folder) == "RUNNING"
    done = go_on(folder)
    assert done.code == 0, done
    assert same_run(folder, undisturbed) and status(folder) == "FINISHED"


def test_a_run_that_saves_nothing_starts_over_and_comes_to_the_same(undisturbed: Path, workplace: Path) -> None:
    folder, never = workplace / "run", ["checkpoint.every_steps=null", "checkpoint.every_epochs=null"]
    assert begin(folder, *never, before=partial(at_step, 7, kill)).code == -signal.SIGKILL
    assert go_on(folder).code == 0
    assert same_run(folder, undisturbed)


LONG = ("dataset.train=2000", "loader.batch_size=10", "checkpoint.every_steps=20")


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        "last-00000-0000",
        *(pytest.param(place, marks=pytest.mark.nightly) for place in ("last-00001-0001", "last-00002-000000")),
    ],
)
def test_a_command_that_is_killed_goes_on_by_the_command_that_it_tells(place: str, cli: Cli, workplace: Path) -> None:
    arguments = [*SMALL, *LONG]
    assert cli(*arguments, "hydra.run.dir=undisturbed").returncode == 0
    with subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments, "hydra.run.dir=run"],
        cwd=workplace,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        until = time.monotonic() + 120
        while not list((workplace / "run" / FOLDER).glob(f"{place}*")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    again = cli("hydra.run.dir=run", *arguments)
    assert "python -m experiments.resume run" in again.stderr
    done = cli("run", module="experiments.resume")
    assert done.returncode == 0, done.stderr
    assert same_run(workplace / "run", workplace / "undisturbed")
    assert [event["event"] for event in raw_journal.read(workplace / "run")].count("resume") == 1
