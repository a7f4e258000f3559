"""A sweep that was killed goes on: finished jobs stay as they are, a half-done one goes on, missing ones are run."""

from __future__ import annotations

import json
import os
import re
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

import experiments
from experiments.config.overrides import quoted
from experiments.errors import ConfigError
from experiments.runs import sweep_plan
from experiments.runs.overrides import merge
from experiments.runs.sweep_plan import SweepPlan
from experiments.tracking import journal
from tests.support import raw_journal
from tests.support.commands import EPOCHS, SMALL, STEPS, at_step, command, resumed, same_run, status
from tests.support.forked import Ended, kill
from tests.support.resuming import checked
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

SWEEP = ("-m", *SMALL, "optim.lr=0.01,0.02,0.03")
KILL = signal.SIGKILL
IN_THE_SECOND = EPOCHS * STEPS + 6
JOBS = ("0", "1", "2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three jobs as runs of their own."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for job, lr in zip(JOBS, (0.01, 0.02, 0.03), strict=True):
        experiments.run([*SMALL, f"optim.lr={lr}", f"hydra.run.dir={folder / job}"])
    return folder


def content(folder: Path) -> dict[str, bytes]:
    kept = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".log", ".lock")]
    return {path.name: path.read_bytes() for path in kept if path.parent.name != ".hydra"}


def states(done: Ended) -> list[str]:
    """The states that the table at the end tells, by the jobs' numbers."""
    rows = [line.split() for line in done.out.splitlines() if re.match(r"[012] +0\.0", line)]
    return [row[-1] for row in sorted(rows)]


@dataclass(frozen=True)
class Sweep:
    """A sweep that was killed in the middle of its second job, and how it went on."""

    folder: Path
    ended: Ended
    first_job_before: dict[str, bytes]


def begin_and_kill(folder: Path) -> None:
    assert command(*SWEEP, f"hydra.sweep.dir={folder}", before=partial(at_step, IN_THE_SECOND, kill)).code == -KILL
    assert (status(folder / "0"), status(folder / "1")) == ("FINISHED", "RUNNING")
    assert not (folder / "2").exists()


@pytest.fixture(scope="module")
def sweep(undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("sweep") / "sweep"
    begin_and_kill(folder)
    before = content(folder / "0")
    return Sweep(folder, resumed(folder), before)


def test_each_job_comes_to_what_it_would_have_come_to(sweep: Sweep, undisturbed: Path) -> None:
    assert sweep.ended.code == 0, sweep.ended
    assert all(same_run(sweep.folder / job, undisturbed / job) for job in JOBS)


def test_its_table_has_all_jobs(sweep: Sweep) -> None:
    assert states(sweep.ended) == ["FINISHED"] * 3


def test_a_finished_job_is_left_as_it_is(sweep: Sweep) -> None:
    assert content(sweep.folder / "0") == sweep.first_job_before


def test_the_half_done_job_goes_on_and_the_missing_one_begins(sweep: Sweep) -> None:
    resumes = [[event["event"] for event in raw_journal.read(sweep.folder / job)].count("resume") for job in JOBS]
    assert resumes == [0, 1, 0]


def test_the_sweep_itself_goes_on_and_ends(sweep: Sweep) -> None:
    assert [event["event"] for event in raw_journal.read(sweep.folder)] == ["start", "resume", "metrics", "end"]
    assert status(sweep.folder) == "FINISHED"


def test_settings_are_refused_for_a_sweep(sweep: Sweep) -> None:
    done = resumed(sweep.folder, "epochs=9")
    told = "a sweep resumes with its own settings; other settings are for a single run's folder only"
    assert (done.code, done.err) == (2, f"error: epochs=9: {told}\n")


@pytest.mark.parametrize("name", ["caf\u00e9", "back\\slash"])
def test_it_goes_on_in_the_folder_it_has_whatever_that_is_called(name: str, workplace: Path) -> None:
    folder = workplace / name / "sweep"
    one = ("-m", *SMALL, "optim.lr=0.01", f"hydra.sweep.dir={quoted(str(folder))}")
    assert command(*one, before=partial(at_step, EPOCHS, kill)).code == -KILL
    assert resumed(folder).code == 0
    assert status(folder / "0") == "FINISHED"


def test_of_two_sweeps_that_begin_in_one_folder_at_once_the_second_is_refused(workplace: Path) -> None:
    sweep_plan.keep(workplace, SweepPlan(["seed"], ["seed=1,2"]))
    with pytest.raises(ConfigError, match="already holds a sweep; to resume it: python -m experiments.resume"):
        sweep_plan.keep(workplace, SweepPlan(["seed"], ["seed=3,4"]))
    assert json.loads((workplace / sweep_plan.PLAN).read_text(encoding="utf-8"))["overrides"] == ["seed=1,2"]


def test_it_waits_for_who_only_looks_whether_it_lives(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep_plan.begin(workplace, checked().tracking)
    looking = FileLock(workplace / journal.LOCK)
    looking.acquire()
    monkeypatch.setattr("time.sleep", lambda _: looking.release())  # by the time that a wait is over
    with sweep_plan.held(workplace):
        assert not looking.is_locked


def test_a_sweep_that_is_held_is_refused_naming_the_process_that_has_it(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_plan, "WAIT_SECONDS", 0)
    sweep_plan.begin(workplace, checked().tracking)
    with (
        sweep_plan.held(workplace),
        pytest.raises(ConfigError, match=f"process {os.getpid()} on .* has this sweep in use"),
    ):
        sweep_plan._owned(workplace)


SECRET = "name=http://ada:canary@host"  # any setting may hold one; where there is a store, its address does


@pytest.fixture
def masked(workplace: Path) -> Path:
    """A sweep that was killed, begun with a secret on its command line."""
    one = ("-m", *SMALL, "optim.lr=0.01", SECRET, "hydra.sweep.dir=sweep")
    assert command(*one, before=partial(at_step, 2, kill)).code == -KILL
    assert "canary" not in (workplace / "sweep" / sweep_plan.PLAN).read_text(encoding="utf-8")
    return workplace / "sweep"


def test_a_secret_that_it_was_begun_with_is_asked_for(masked: Path) -> None:
    done = resumed(masked)
    assert (done.code, done.err) == (2, "error: name: it holds a secret, which is not kept; give it again: name=...\n")


def test_with_its_secret_given_again_it_goes_on(masked: Path) -> None:
    assert resumed(masked, SECRET).code == 0
    assert raw_journal.summary(masked / "0")["start"]["name"] == "http://ada:***@host"


def test_a_secret_is_no_leave_to_change_another_setting(masked: Path) -> None:
    assert resumed(masked, SECRET, "epochs=9").err.startswith("error: epochs=9: a sweep resumes with its own settings;")


def test_a_secret_that_is_swept_over_leaves_the_jobs_in_their_order() -> None:
    begun_with = ["model.token=***,***", "optim.lr=0.1,0.2"]
    assert merge(begun_with, ["model.token=a,b"]) == ["model.token=a,b", "optim.lr=0.1,0.2"]


@pytest.mark.slow
def test_a_finished_sweep_shows_its_table_again(sweep: Sweep) -> None:
    before = {job: content(sweep.folder / job) for job in JOBS}
    done = resumed(sweep.folder)
    assert done.code == 0 and states(done) == ["FINISHED"] * 3
    assert {job: content(sweep.folder / job) for job in JOBS} == before


@pytest.mark.slow
def test_a_sweep_that_is_killed_twice_goes_on_twice(undisturbed: Path, workplace: Path) -> None:
    folder = workplace / "sweep"
    begin_and_kill(folder)
    assert resumed(folder, before=partial(at_step, EPOCHS * STEPS, kill)).code == -KILL
    assert resumed(folder).code == 0
    assert all(same_run(folder / job, undisturbed / job) for job in JOBS)


@pytest.mark.slow
def test_a_failed_job_is_tried_again(undisturbed: Path, workplace: Path) -> None:
    def fail() -> None:
        raise RuntimeError("out of luck")

    assert command(*SWEEP, "hydra.sweep.dir=sweep", before=partial(at_step, IN_THE_SECOND, fail)).code == 1
    assert status(workplace / "sweep" / "1") == "FAILED"
    assert resumed("sweep").code == 0
    assert all(same_run(workplace / "sweep" / job, undisturbed / job) for job in JOBS)
