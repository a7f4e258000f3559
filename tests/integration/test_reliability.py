"""Faults that belong to no one part, and the page that lists them all."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

import experiments
from experiments.tracking.mlflow_store import Store
from tests.support import raw_journal
from tests.support.places import ROOT, Cli
from tests.support.training import make, one_thread, same  # noqa: F401  # a fixture of every test here

TINY = ["dataset=synthetic", "dataset.train=60", "dataset.valid=20", "figures=false"]
UNTRACKED = [*TINY, "tracking=none"]


def test_a_batch_larger_than_the_data_is_one_batch(workplace: Path) -> None:
    result = experiments.run([*UNTRACKED, "loader.batch_size=1000", "loader.valid_batch_size=1000", "epochs=1"])
    plain = experiments.run([*UNTRACKED, "loader.batch_size=60", "loader.valid_batch_size=20", "epochs=1"])
    assert result.history[0]["valid/loss"] == plain.history[0]["valid/loss"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["seed=range(3,3)"], "sweep: the swept keys have no values, so there is no job\n"),
        (["seed=range(0,2000)"], "sweep.limit: more than 1000 jobs; sweep.limit=N allows as many as N\n"),
        (["seed=range(0,1000000000)", "epochs=1,2"], "sweep.limit: more than 1000 jobs; sweep.limit=N allows "),
        (["seed=1,2,3", "sweep.limit=2"], "sweep.limit: more than 2 jobs; sweep.limit=N allows as many as N\n"),
    ],
)
def test_a_sweep_of_no_jobs_or_of_too_many_is_refused(
    overrides: list[str], told: str, cli: Cli, workplace: Path
) -> None:
    done = cli("-m", *UNTRACKED, *overrides)
    assert (done.returncode, done.stderr[: len(told) + 7]) == (2, f"error: {told}")
    assert list(workplace.iterdir()) == []


def first_step(threads: int) -> torch.Tensor:
    torch.set_num_threads(threads)
    runner = make()
    xb, yb = next(runner.train.epoch(0))
    runner.step(xb, yb, 0)
    return torch.cat([p.detach().flatten() for p in runner.step.update.params])


def test_one_thread_and_two_are_close_for_a_step() -> None:
    assert torch.allclose(first_step(1), first_step(2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_threads_give_the_same_bits(threads: int, workplace: Path) -> None:
    overrides = [*UNTRACKED, "model=cnn_adaptive", f"device.threads={threads}", "device=cpu"]
    one, other = experiments.run(overrides), experiments.run(overrides)
    assert same(one.model.state_dict(), other.model.state_dict())
    assert one.history[-1]["train/loss"] == other.history[-1]["train/loss"]


def start_of(result: experiments.Result) -> dict[str, Any]:
    assert result.folder is not None
    return dict(raw_journal.read(result.folder)[0])


def test_the_number_of_threads_is_part_of_the_run_key(workplace: Path) -> None:
    starts = [start_of(experiments.run([*UNTRACKED, "epochs=1", f"device.threads={n}"])) for n in (1, 2, 2)]
    keys = [start["tags"]["experiments.run_key"] for start in starts]
    assert keys[0] != keys[1] == keys[2]
    assert [start["identity"]["machine.threads"] for start in starts] == [1, 2, 2]


def test_one_runs_threads_are_not_the_next_ones(workplace: Path) -> None:
    before = torch.get_num_threads()
    experiments.run([*UNTRACKED, "epochs=1", f"device.threads={before + 1}"])
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_a_store_that_is_full_gets_the_run_once_there_is_room(workplace: Path, cli: Cli) -> None:
    Store("sqlite:///mlflow.db")
    size = (workplace / "mlflow.db").stat().st_size

    def no_more_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    command = [sys.executable, "-m", "experiments", *TINY, "tracking.wait_seconds=8", "epochs=30"]
    done = subprocess.run(command, preexec_fn=no_more_room, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 runs are not in MLflow" in done.stdout
    assert cli(module="experiments.sync").returncode == 0
    (run,) = MlflowClient(f"sqlite:///{workplace / 'mlflow.db'}").search_runs(["1"])
    assert run.info.status == "FINISHED"


def rows() -> dict[int, tuple[str, str]]:
    """The page's rows: number to the tests it names and its state."""
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (\d+) \| .* \| (.*) \| (yes|not yet: .+) \|$", text, re.MULTILINE)
    return {int(number): (named, state) for number, named, state in found}


def test_the_page_has_all_45_rows_and_counts_them_right() -> None:
    assert sorted(rows()) == list(range(1, 46))
    handled = [number for number, (_, state) in rows().items() if state == "yes"]
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert f"Of 45 faults, **{len(handled)}** are handled" in text


def test_every_test_that_the_page_names_is_there() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]*test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 60
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (path := ROOT / "tests" / file).is_file() or f"def {name}(" not in path.read_text(encoding="utf-8")
    ]
    assert missing == []
