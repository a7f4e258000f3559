"""What comes after a job of a sweep has failed, or after Ctrl-C: told at once, going on or stopping as asked."""

from __future__ import annotations

import re
import signal
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

from experiments.errors import TrainingError
from experiments.sweeps import hooks, monitor
from experiments.training import checkpoint
from tests.support import raw_journal
from tests.support.commands import EPOCHS, SMALL, STEPS, at_step, command, resumed, signalled, status
from tests.support.forked import Ended, fork, forked
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

SWEEP = ("-m", *SMALL, "optim.lr=0.01,0.02,0.03", "hydra.sweep.dir=sweep")
IN_THE_SECOND = EPOCHS * STEPS + 6
REASON = "RuntimeError: out of luck"


def fail() -> None:
    raise RuntimeError("out of luck")


def always() -> None:
    """Have every job fail at its first step."""
    from experiments.training.update import Update

    Update.__call__ = lambda *_: fail()  # type: ignore[method-assign]  # in a process that ends soon


def test_a_failed_job_holds_nothing_of_its_training() -> None:
    held: list[weakref.ref[Any]] = []

    def training() -> None:
        model = type("Model", (), {})()
        held.append(weakref.ref(model))
        fail()

    with pytest.raises(RuntimeError) as failed:
        training()
    assert held[0]() is not None
    hooks._clear_frames(failed.value)
    assert held[0]() is None


def test_a_failed_job_whose_error_is_among_its_own_causes_ends_too() -> None:
    error, above = RuntimeError("out of luck"), RuntimeError("above")
    error.__cause__, above.__cause__ = above, error
    assert forked(lambda: hooks._clear_frames(error), seconds=20).code == 0


def fails_in_the_second() -> None:
    at_step(IN_THE_SECOND, fail)


def swept(*options: str, before: Callable[[], object] = fails_in_the_second) -> Ended:
    return command(*SWEEP, *options, before=before)


def states(done: Ended) -> dict[str, str]:
    """What the table at the end tells of each job."""
    rows = [re.split(r"  +", line) for line in done.out.splitlines() if re.match(r"[012] +0\.0", line)]
    return {row[0]: row[-1] for row in rows}


def ended(sweep: Path) -> tuple[str, str]:
    found = raw_journal.summary(sweep)
    return found["status"], found["reason"]


def test_after_a_failure_the_others_are_run_and_the_exit_code_tells(workplace: Path) -> None:
    done = swept()
    assert done.code == 1
    assert states(done) == {"0": "FINISHED", "1": "FAILED", "2": "FINISHED"}
    assert ended(workplace / "sweep") == ("FAILED", "1 of 3 jobs failed")
    assert "error: 1 job failed; what did not finish is tried again by python -m experiments.resume sweep" in done.err


def test_a_failure_is_told_when_it_happens(workplace: Path) -> None:
    done = swept()
    told = f"job 1 (optim.lr=0.02) failed: {REASON}; traceback in sweep/1/error.txt\n"
    assert done.out.count(told) == 1
    assert done.out.index(told) < done.out.index("#2 : ")
    assert "in fail" in Path("sweep/1/error.txt").read_text(encoding="utf-8")


def test_stop_runs_nothing_after_the_first_failure(workplace: Path) -> None:
    done = swept("sweep.on_failure=stop")
    assert done.code == 1 and "1 job failed; the sweep stopped there" in done.err
    assert states(done) == {"0": "FINISHED", "1": "FAILED", "2": "not run"}
    assert not (workplace / "sweep" / "2").exists()
    assert ended(workplace / "sweep") == ("FAILED", "1 of 3 jobs failed, 1 not run")


def test_a_number_allows_so_many_failures(workplace: Path) -> None:
    assert states(swept("sweep.on_failure=2", before=always)) == {"0": "FAILED", "1": "FAILED", "2": "not run"}


def test_every_batch_of_a_sweep_is_run_after_a_failure(workplace: Path) -> None:
    done = swept("hydra.sweeper.max_batch_size=1")
    assert states(done) == {"0": "FINISHED", "1": "FAILED", "2": "FINISHED"}


def test_what_was_not_run_is_run_when_the_sweep_goes_on(workplace: Path) -> None:
    assert swept("sweep.on_failure=stop").code == 1
    done = resumed("sweep")
    assert (done.code, states(done)) == (0, {"0": "FINISHED", "1": "FINISHED", "2": "FINISHED"})
    assert ended(workplace / "sweep") == ("FINISHED", "")


def test_failures_of_an_earlier_start_do_not_count(workplace: Path) -> None:
    assert swept("sweep.on_failure=2").code == 1
    done = resumed("sweep", "sweep.on_failure=2", before=partial(at_step, 1, fail))
    assert states(done) == {"0": "FINISHED", "1": "FAILED", "2": "FINISHED"}


def test_a_failed_job_that_cannot_go_on_tells_that_reason_and_no_longer_the_first(workplace: Path) -> None:
    assert swept().code == 1
    for path in (workplace / "sweep" / "1").glob(f"{checkpoint.FOLDER}/*"):
        path.write_bytes(b"")
    refused = resumed("sweep")
    told = "no checkpoint in .*/sweep/1/checkpoints can be used"
    assert re.search(rf"job 1 \(optim.lr=0.02\) failed: {told}.*; sweep/1/error.txt\n", refused.out)
    assert re.search(rf"job 1 FAILED: {told}", refused.out)
    assert re.match(told, Path("sweep/1/error.txt").read_text(encoding="utf-8"))
    assert REASON not in refused.out


def test_ctrl_c_ends_the_sweep_as_killed_and_tells_what_was_not_run(workplace: Path) -> None:
    done = swept(before=signalled(IN_THE_SECOND, signal.SIGINT))
    assert done.code == 130
    assert states(done) == {"0": "FINISHED", "1": "KILLED", "2": "not run"}
    assert ended(workplace / "sweep") == ("KILLED", "interrupted; 1 of 3 jobs are finished")


def test_the_answer_names_the_best_job_with_its_settings_and_its_folder(workplace: Path) -> None:
    done = swept()
    losses = {job: raw_journal.summary(Path("sweep", job))["figures"]["best/valid_loss"] for job in ("0", "2")}
    best = min(losses, key=lambda job: losses[job])
    settings = {"0": "optim.lr=0.01", "2": "optim.lr=0.03"}[best]
    assert f"best    job {best}, best/valid_loss {losses[best]!r}: {settings}; sweep/{best}\n" in done.out


def test_a_policy_that_is_none_is_refused(workplace: Path) -> None:
    done = command(*SWEEP, "sweep.on_failure=0")
    told = "0 is not allowed: it should be continue, stop, or after how many failures to stop (>= 1)"
    assert (done.code, done.err) == (2, f"error: sweep.on_failure: {told}\n")
    assert list(workplace.iterdir()) == []


def test_the_reasons_lie_in_the_sweeps_folder_too(workplace: Path) -> None:
    swept()
    told = Path("sweep/failures.txt").read_text(encoding="utf-8")
    assert told.startswith("job 1, sweep/1/error.txt:\nTraceback ") and REASON in told


def returned(error: Exception | None) -> JobReturn:
    job = JobReturn(status=JobStatus.COMPLETED if error is None else JobStatus.FAILED)
    job.return_value = error
    return job


def test_what_a_launcher_returns_as_failed_is_told_whatever_the_job_could_say(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    error = RuntimeError("out of luck")
    batch = [["optim.lr=0.1"], ["optim.lr=0.2"]]
    with monitor.Watch(workplace, "continue", elsewhere=True) as watch:
        watch.take([returned(None), returned(error)], [4, 5], batch)
    assert [record.getMessage() for record in caplog.records] == [f"job 5 failed: {REASON}"]
    with pytest.raises(TrainingError, match="1 job failed") as raised:
        watch.raise_if_failed()
    assert raised.value.__cause__ is error


def test_a_failure_in_another_process_is_told_while_the_launcher_still_waits(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with monitor.Watch(workplace, "continue", elsewhere=True) as watch:
        assert fork(lambda: monitor.note(workplace, 3, "job 3 failed")).wait().code == 0
        assert watch._over.wait(4 * monitor.POLL_SECONDS) is False
        assert [record.getMessage() for record in caplog.records] == ["job 3 failed"]


def test_a_job_of_another_process_does_not_begin_once_the_sweep_has_stopped(workplace: Path) -> None:
    monitor.note(workplace, 3, "job 3 failed")
    monitor.require_going_on(workplace, "continue")
    monitor.require_going_on(workplace, 2)
    with pytest.raises(monitor.NotRun, match=r"the sweep stopped after 1 failures \(sweep.on_failure=stop\)"):
        monitor.require_going_on(workplace, "stop")


def test_a_job_that_is_killed_in_a_process_of_its_own_is_told_as_such(workplace: Path) -> None:
    from experiments.sweeps import summary

    assert (
        command(*SWEEP, before=partial(at_step, IN_THE_SECOND, partial(signal.raise_signal, signal.SIGKILL))).code < 0
    )
    assert status(workplace / "sweep" / "1") == "RUNNING"
    found = summary._ended_jobs(workplace / "sweep")
    assert [job.status for job in found] == ["FINISHED", "KILLED", "not run"]
