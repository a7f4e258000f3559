"""A run that ends before its time, by a signal, an exception, or a worker process that is gone: how, and going on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import experiments
from experiments.runs.folder import ERROR
from experiments.training.checkpoint import FOLDER, Checkpoints
from experiments.training.runner import Runner
from experiments.training.update import Update
from tests.support import raw_journal
from tests.support.commands import SMALL, at_step, begin, command, resumed, same_run, signalled, status
from tests.support.crashing import Place, crash
from tests.support.forked import Ended
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

TERM, INT = signal.SIGTERM, signal.SIGINT
HUP = getattr(signal, "SIGHUP", TERM)  # Windows has none
CODES = [(TERM, 143, "exit 143"), (INT, 130, "interrupted"), (HUP, 129, "exit 129")]
pytestmark = pytest.mark.usefixtures("ordinary_signals")
slow = pytest.mark.slow
WORKERS = ("loader=dataloader", "loader.num_workers=2", "dataset.train=80")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    # In this process: the processes that are forked off it then have all that is imported late.
    experiments.run([*SMALL, f"hydra.run.dir={folder}"])
    return folder


def run(*overrides: str, before: Callable[[], Any]) -> Ended:
    return command(*SMALL, "hydra.run.dir=run", *overrides, before=before)


def newest(folder: Path) -> str:
    return max(path.name for path in (folder / FOLDER).glob("last-*"))


def goes_on(folder: Path, undisturbed: Path) -> bool:
    done = resumed(folder)
    assert done.code == 0, done
    return same_run(folder, undisturbed) and status(folder) == "FINISHED"


@pytest.mark.parametrize(("number", "code", "reason"), CODES)
def test_a_signal_ends_it_at_the_end_of_the_step_with_its_state_saved(
    number: int, code: int, reason: str, undisturbed: Path, workplace: Path
) -> None:
    done = run("checkpoint.every_steps=null", before=signalled(6, number))
    assert done.code == code and "Traceback" not in done.err
    assert "\nstopped; to resume: python -m experiments.resume run\n" in done.out
    summary = raw_journal.summary(workplace / "run")
    assert (summary["status"], summary["reason"]) == ("KILLED", reason)
    assert newest(workplace / "run").startswith("last-00001-000002-")
    assert goes_on(workplace / "run", undisturbed)


def test_a_sweep_that_is_terminated_tells_how_to_resume_it(workplace: Path) -> None:
    done = command("-m", *SMALL, "seed=0,1", "hydra.sweep.dir=sweep", before=signalled(6, HUP))
    assert done.code == 129 and "Traceback" not in done.err
    assert done.out.endswith("\nstopped; to resume: python -m experiments.resume sweep\n")
    assert done.out.count("to resume") == 1 and status(workplace / "sweep") == "KILLED"


@pytest.mark.parametrize(
    ("number", "code", "reason"), [CODES[0], *(pytest.param(*one, marks=slow) for one in CODES[1:])]
)
def test_a_second_signal_ends_it_within_the_step(
    number: int, code: int, reason: str, undisturbed: Path, workplace: Path
) -> None:
    assert run(before=signalled(6, number, number)).code == code
    assert status(workplace / "run") == "KILLED"
    assert newest(workplace / "run").startswith("last-00001-000001-")
    assert goes_on(workplace / "run", undisturbed)


@pytest.mark.parametrize(
    "owner",
    [
        pytest.param((Path, "write_bytes"), id="write", marks=slow),
        pytest.param((os, "fsync"), id="sync"),
        pytest.param((Path, "replace"), id="name", marks=slow),
    ],
)
def test_a_second_signal_inside_a_save_damages_nothing(
    owner: tuple[Any, str], undisturbed: Path, workplace: Path
) -> None:
    def twice(real: Callable[..., Any], *args: Any) -> Any:
        os.kill(os.getpid(), TERM)
        os.kill(os.getpid(), TERM)
        return real(*args)

    assert run(before=partial(crash, 4, Place(*owner, twice), inside=(Checkpoints, "_write"))).code == 143
    assert status(workplace / "run") == "KILLED"
    assert list((workplace / "run").rglob("*.part")) == []
    assert goes_on(workplace / "run", undisturbed)


def in_evaluation(number: int) -> Callable[[], None]:
    """Has a process be terminated within the so-manieth evaluation, the untrained model's first."""

    def patch() -> None:
        real, seen = Runner.evaluate, [0]

        def evaluate(self: Runner, *args: Any, **settings: Any) -> Any:
            seen[0] += 1
            if seen[0] == number:
                os.kill(os.getpid(), TERM)
            return real(self, *args, **settings)

        Runner.evaluate = evaluate  # type: ignore[method-assign]  # in a process that ends soon

    return patch


@pytest.mark.parametrize("number", [pytest.param(1, marks=slow), 2, pytest.param(4, marks=slow)])
def test_a_signal_in_an_evaluation_ends_it_there(number: int, undisturbed: Path, workplace: Path) -> None:
    assert run(before=in_evaluation(number)).code == 143
    assert goes_on(workplace / "run", undisturbed)


@pytest.mark.parametrize(("number", "code", "reason"), [CODES[0], pytest.param(*CODES[1], marks=slow), CODES[2]])
def test_a_signal_to_worker_processes_as_well_ends_it_as_one_to_it_alone(
    number: int, code: int, reason: str, workplace: Path
) -> None:
    def from_outside() -> None:
        # Torch's workers take one of their parent for its word that all is well.
        if os.fork() == 0:
            os.setpgid(0, 0)
            os.killpg(os.getppid(), number)
            os._exit(0)
        until = time.monotonic() + 0.3  # a step in which word of the workers' end comes
        while time.monotonic() < until:
            pass

    def group() -> None:
        os.setpgid(0, 0)
        at_step(10, from_outside)

    assert run(*WORKERS, before=group).code == code
    summary = raw_journal.summary(workplace / "run")
    assert (summary["status"], summary["reason"]) == ("KILLED", reason)


@pytest.fixture
def gone(workplace: Path) -> Callable[[], bool]:
    """Whether the worker processes noted in a file are gone, within the seconds that torch's own need to see it."""

    def runs(pid: int) -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state != "Z"  # dead, but for whoever adopted it to take note

    def check() -> bool:
        pids = [int(pid) for pid in (workplace / "workers").read_text().split()]
        assert pids
        deadline = time.monotonic() + 10
        while any(map(runs, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return not any(map(runs, pids))

    return check


def note_workers(folder: Path, number: int) -> None:
    """Note this process's worker processes, and send the first of them a signal."""
    workers = multiprocessing.active_children()
    (folder / "workers").write_text(" ".join(str(worker.pid) for worker in workers))
    if number:
        assert workers[0].pid is not None
        os.kill(workers[0].pid, number)


@pytest.mark.slow
def test_a_worker_process_that_is_killed_is_told_and_none_is_left(workplace: Path, gone: Callable[[], bool]) -> None:
    done = run(*WORKERS, before=partial(at_step, 6, partial(note_workers, workplace, signal.SIGKILL)))
    assert done.code == 1
    assert done.err.startswith("error: a worker process of the loader was killed: ")
    assert "Traceback" not in done.err and "Without worker processes: loader.num_workers=0" in done.err
    assert status(workplace / "run") == "FAILED" and gone()


@slow
def test_with_its_worker_processes_killed_it_goes_on(workplace: Path) -> None:
    assert begin(workplace / "undisturbed", *WORKERS).code == 0
    (workplace / "undisturbed" / "noise.pt").unlink()
    run(*WORKERS, before=partial(at_step, 6, partial(note_workers, workplace, signal.SIGKILL)))
    assert goes_on(workplace / "run", workplace / "undisturbed")


def test_a_run_that_is_terminated_leaves_no_worker_process(workplace: Path, gone: Callable[[], bool]) -> None:
    def noted() -> None:
        note_workers(workplace, 0)
        os.kill(os.getpid(), TERM)

    assert run(*WORKERS, before=partial(at_step, 6, noted)).code == 143
    assert gone()


def failing(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return partial(at_step, 6, fail)


@pytest.mark.parametrize(
    "error", [pytest.param(RuntimeError("out of luck"), marks=slow), torch.OutOfMemoryError("CUDA out of memory")]
)
def test_an_exception_is_kept_and_once_its_cause_is_gone_the_run_goes_on(
    error: Exception, undisturbed: Path, workplace: Path
) -> None:
    done = run(before=failing(error))
    assert done.code == 1 and str(error) in done.err
    summary = raw_journal.summary(workplace / "run")
    assert (summary["status"], summary["reason"]) == ("FAILED", f"{type(error).__name__}: {error}")
    kept = (workplace / "run" / ERROR).read_text(encoding="utf-8")
    assert kept.startswith("Traceback") and "in fail\n    raise error\n" in kept
    assert goes_on(workplace / "run", undisturbed)
    assert not (workplace / "run" / ERROR).exists()


def losing_number(number: int) -> None:
    """Have the loss of a step be no number."""
    real = Update.__call__

    def update(self: Update, loss: Tensor, step: int | Tensor) -> None:
        real(self, loss * float("nan") if step == number else loss, step)

    Update.__call__ = update  # type: ignore[method-assign,assignment]  # in a process that ends soon


def test_after_a_loss_that_is_no_number_the_last_good_state_is_there(undisturbed: Path, workplace: Path) -> None:
    done = run(before=partial(losing_number, 6))
    told = "the loss or a gradient is not finite at step 6 (epoch 1, batch 2); that update was not applied"
    assert done.code == 1 and done.err.endswith(f"error: {told}\n")
    assert status(workplace / "run") == "FAILED"
    assert newest(workplace / "run").startswith("last-00001-000002-")
    assert goes_on(workplace / "run", undisturbed)


@slow
def test_a_loss_that_is_no_number_is_so_again_when_the_run_goes_on(workplace: Path) -> None:
    run(before=partial(losing_number, 6))
    done = resumed("run", before=partial(losing_number, 6))
    assert done.code == 1 and "not finite at step 6 (epoch 1, batch 2)" in done.err
    assert status(workplace / "run") == "FAILED"
