"""What a preview tells of each job, and that nothing is started by it."""

from __future__ import annotations

import re
import signal
from functools import partial
from pathlib import Path

import pytest

from experiments.runs.folder import ERROR
from experiments.sweeps.preview import state_of
from experiments.tracking import client, journal
from tests.support import raw_journal
from tests.support.commands import EPOCHS, SMALL, STEPS, at_step, begin, command, resumed
from tests.support.forked import Ended, kill
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

SWEEP = ("-m", *SMALL, "optim.lr=0.01,0.02,0.03")
PREVIEW = "sweep.preview=true"
SINGLE = (*SMALL, "hydra.run.dir=outputs/runs/9", PREVIEW)
IN_THE_SECOND = EPOCHS * STEPS + 6


def rows(done: Ended) -> list[list[str]]:
    assert done.code == 0, done
    return [re.split(r"  +", line.strip()) for line in done.out.splitlines() if re.match(r"\d+ {2,}", line)]


def no_uploader() -> None:
    def start(*_: object) -> None:
        raise AssertionError("an uploader was started")

    client.UploaderProcess.__init__ = start  # type: ignore[method-assign,assignment]  # in a process that ends soon


def test_every_job_is_shown_with_what_differs_and_nothing_is_started(workplace: Path) -> None:
    done = command(*SWEEP, "tracking=mlflow", PREVIEW, before=no_uploader)
    unknown = ["new", "unknown", "unknown", "no run like it"]
    assert rows(done) == [[str(job), lr, *unknown] for job, lr in enumerate(("0.01", "0.02", "0.03"))]
    assert "3 jobs: 3 new\ntime and disk are unknown" in done.out and "nothing was started" in done.out
    assert list(workplace.iterdir()) == []


def test_it_is_refused_as_the_sweep_would_be(workplace: Path) -> None:
    done = command("-m", *SMALL, "optim.lr=0.01,-1", PREVIEW)
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: optim.lr: -1 is not allowed: it should be greater than 0\n"


def test_a_folder_that_holds_a_sweep_is_refused(workplace: Path) -> None:
    assert command(*SWEEP, "hydra.sweep.dir=sweep").code == 0
    done = command(*SWEEP, "hydra.sweep.dir=sweep", PREVIEW)
    assert done.code == 2 and "sweep already holds a sweep" in done.err


def test_a_single_run_is_shown_too(workplace: Path) -> None:
    done = command(*SINGLE)
    assert [row[1] for row in rows(done)] == ["new"] and "1 job: 1 new" in done.out
    assert list(workplace.iterdir()) == []


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_of_a_sweep_that_goes_on_each_job_has_its_state(workplace: Path) -> None:
    killed = command(*SWEEP, "hydra.sweep.dir=sweep", before=partial(at_step, IN_THE_SECOND, kill))
    assert killed.code == -signal.SIGKILL
    before = everything(workplace)
    done = resumed("sweep", PREVIEW)
    assert [(row[0], row[2], row[-1]) for row in rows(done)] == [
        ("0", "done", "done"),
        ("1", "half-done", "1 epoch done"),
        ("2", "new", "1 run"),
    ]
    assert "3 jobs: 1 done, 1 half-done, 1 new" in done.out
    assert everything(workplace) == before


def test_a_failed_job_is_told_with_its_reason(workplace: Path) -> None:
    def fail() -> None:
        raise RuntimeError("out of luck")

    assert command(*SWEEP, "hydra.sweep.dir=sweep", before=partial(at_step, IN_THE_SECOND, fail)).code == 1
    found = {row[0]: row for row in rows(resumed("sweep", PREVIEW))}
    assert found["1"][2] == "failed" and found["1"][-1] == "1 epoch done; RuntimeError: out of luck"


def test_of_a_failed_job_that_could_not_go_on_that_is_told(workplace: Path) -> None:
    failed = journal.Journal(workplace)
    failed.start()
    failed.end("FAILED", "RuntimeError: out of luck")
    (workplace / ERROR).write_text("it cannot go on:\n  too little is left\n", encoding="utf-8")
    assert state_of(workplace).note == "0 epochs done; it cannot go on: too little is left"


def seconds(time: str) -> float:
    number, unit = time.split()
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def test_time_and_disk_are_those_of_like_runs_and_grow_with_the_epochs(workplace: Path) -> None:
    from experiments.sweeps.estimate import _disk

    for seed in (0, 1):
        assert begin(workplace / f"outputs/runs/{seed}", f"seed={seed}").code == 0
    events = [raw_journal.read(workplace / f"outputs/runs/{seed}") for seed in (0, 1)]
    whole = [(each[-1]["time"] - each[0]["time"]) / 1000 for each in events]
    (short,), (long,) = (rows(command(*SINGLE, "optim.lr=0.5", f"epochs={n}")) for n in (EPOCHS, 1000 * EPOCHS))
    assert short[-1] == long[-1] == "2 runs"
    assert min(whole) - 0.06 <= seconds(short[2]) <= max(whole) + 0.06
    trained = [sum(event["values"].get("time/epoch_seconds", 0) for event in each[1:-1]) for each in events]
    assert 900 * min(trained) <= seconds(long[2]) <= 1100 * max(trained) + max(whole)
    kilobytes = [_disk(workplace, workplace / f"outputs/runs/{seed}") / 1000 for seed in (0, 1)]
    assert min(kilobytes) - 1 <= float(short[3].split()[0]) <= max(kilobytes) + 1


def test_of_another_kind_of_run_nothing_is_known(workplace: Path) -> None:
    assert begin(workplace / "outputs/runs/0").code == 0
    assert [row[2:] for row in rows(command(*SINGLE, "model.width=7"))] == [["unknown", "unknown", "no run like it"]]


def test_what_was_trained_before_is_told(workplace: Path) -> None:
    assert begin(workplace / "outputs/runs/0").code == 0
    (again,), (taken,), (other,) = (rows(command(*SINGLE, option)) for option in ("seed=0", "reuse=finished", "seed=1"))
    assert again[1] == "new" and again[-1] == "trained before: outputs/runs/0 (reuse=finished would take it)"
    assert taken[1:] == ["done", "reuse=finished takes outputs/runs/0"]
    assert other[1] == "new" and other[-1] == "1 run"


def test_other_sweepers_are_refused_for_they_would_start_the_jobs(workplace: Path) -> None:
    done = command(*SWEEP, "hydra/sweeper=basic", PREVIEW)
    assert done.code == 2 and done.err.startswith(
        "error: sweep.preview: another sweeper than ours would start its jobs"
    )
    assert list(workplace.iterdir()) == []


@pytest.mark.slow
def test_the_tutorial_is_shown_stage_by_stage(workplace: Path) -> None:
    done = command("experiment=tutorial", PREVIEW)
    found = rows(done)
    assert [row[0] for row in found] == [str(number) for number in range(14)]
    assert found[9][1:3] == ["10_cnn", "new"]
    assert list(workplace.iterdir()) == []
