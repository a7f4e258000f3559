"""The same training again is taken from where it was done, said aloud, with everything a reader of it needs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import experiments
from experiments.compare import __main__ as compare
from experiments.errors import ConfigError
from experiments.runs import references
from experiments.sweeps import summary
from experiments.tracking import journal, record
from experiments.training import weights
from tests.support import raw_journal
from tests.support.commands import EPOCHS, SMALL, begin, command, go_on, resumed
from tests.support.forked import Ended
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

REUSE = "reuse=finished"


@pytest.fixture
def done_before(workplace: Path) -> Path:
    folder = workplace / "outputs" / "runs" / "first"
    assert begin(folder).code == 0
    return folder


def again(*overrides: str) -> Ended:
    return command(*SMALL, "hydra.run.dir=outputs/runs/second", *overrides)


SECOND = Path("outputs/runs/second")


def test_a_finished_run_is_taken_and_said_aloud(done_before: Path) -> None:
    done = again(REUSE)
    assert done.code == 0
    key = record.run_key(done_before)
    assert f"reuse=finished: takes outputs/runs/first, the same training (run key {key})\n" in done.out
    assert "epoch 0" not in done.out
    assert references.referred(SECOND) == done_before and not (SECOND / journal.FILE).exists()


def test_the_result_is_the_runs_own(done_before: Path) -> None:
    result = experiments.run([*SMALL, "hydra.run.dir=outputs/runs/second", REUSE])
    history = raw_journal.history(done_before)
    assert result.history == history and result.folder == done_before
    assert result.best_valid_loss == min(figures["valid/loss"] for figures in history)
    trained = torch.load(done_before / weights.FILE, weights_only=True)
    assert all(torch.equal(value, trained[name]) for name, value in result.model.state_dict().items())


def test_without_being_asked_it_trains_again(done_before: Path) -> None:
    assert again().code == 0
    assert (SECOND / journal.FILE).exists() and references.referred(SECOND) is None


@pytest.mark.parametrize("override", ["seed=1", "optim.lr=0.02", f"epochs={EPOCHS + 1}", "dataset.seed=9"])
def test_another_training_is_trained(override: str, done_before: Path) -> None:
    assert again(REUSE, override).code == 0
    assert (SECOND / journal.FILE).exists()


def test_a_run_that_went_on_to_more_epochs_is_no_longer_the_short_one(done_before: Path) -> None:
    short, longer = record.run_key(done_before), EPOCHS + 1
    assert go_on(done_before, f"epochs={longer}").code == 0
    assert record.run_key(done_before) != short
    assert again(REUSE).code == 0 and (SECOND / journal.FILE).exists()
    third = command(*SMALL, REUSE, f"epochs={longer}", "hydra.run.dir=outputs/runs/third")
    assert third.code == 0 and references.referred(Path("outputs/runs/third")) == done_before


def test_what_is_gone_is_trained_again_in_the_same_folder(done_before: Path) -> None:
    assert again(REUSE).code == 0
    shutil.rmtree(done_before)
    assert again(REUSE).code == 0
    assert (SECOND / journal.FILE).exists() and not (SECOND / references.FILE).exists()


def test_a_run_that_did_not_finish_is_not_taken(done_before: Path) -> None:
    journal.end(done_before, "FAILED", "afterwards")
    assert again(REUSE).code == 0 and (SECOND / journal.FILE).exists()


def test_whoever_reads_its_folder_is_led_to_the_run(done_before: Path) -> None:
    assert again(REUSE).code == 0
    one, other = experiments.load(SECOND).state_dict(), experiments.load(done_before).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in other)
    told = resumed(SECOND)
    assert told.code == 2 and f"resume that one: python -m experiments.resume {done_before}" in told.err


def test_a_policy_that_is_none_is_refused(workplace: Path) -> None:
    done = command(*SMALL, "reuse=always")
    assert (done.code, done.err) == (2, "error: reuse: 'always' is not allowed: it should be 'never' or 'finished'\n")


def test_in_a_sweep_its_row_has_the_figures_and_where_they_are_from(done_before: Path) -> None:
    swept = command("-m", *SMALL, "optim.lr=0.001,0.02", REUSE, "hydra.sweep.dir=sweep")
    assert swept.code == 0
    lr = float(raw_journal.summary(done_before)["start"]["params"]["optim.lr"])
    assert lr == 0.001
    rows = {
        line.split()[0]: re.split(r"  +", line) for line in swept.out.splitlines() if re.match(r"[01]  +0\.0", line)
    }
    best = raw_journal.summary(done_before)["figures"]["best/valid_loss"]
    assert rows["0"][1:3] == ["0.001", f"{best:.4f}"] and rows["0"][-2:] == ["outputs/runs/first", "FINISHED"]
    assert rows["1"][-1] == "FINISHED" and len(rows["1"]) == len(rows["0"]) - 1
    assert [job.status for job in summary.collect(Path("sweep"))] == ["FINISHED", "FINISHED"]
    assert raw_journal.summary(Path("sweep"))["status"] == "FINISHED"


def test_a_sweep_with_a_reused_job_is_compared_and_goes_on(
    done_before: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("-m", *SMALL, "optim.lr=0.001,0.02", REUSE, "hydra.sweep.dir=sweep").code == 0
    compare.main(["sweep"])
    assert re.search(r"(?m)^0 +0\.001 ", capsys.readouterr().out)
    assert resumed("sweep").code == 0
    assert references.referred(Path("sweep/0")) == done_before


LOST = "the run that it took is gone or was trained longer since: outputs/runs/first"


def longer(folder: Path) -> None:
    assert go_on(folder, f"epochs={EPOCHS + 1}").code == 0


@pytest.fixture
def took(done_before: Path) -> Path:
    """A sweep whose only job took the run that was done before."""
    assert command("-m", *SMALL, "optim.lr=0.001", REUSE, "hydra.sweep.dir=sweep").code == 0
    assert references.referred(Path("sweep/0")) == done_before
    return done_before


@pytest.mark.parametrize("change", [longer, shutil.rmtree])
def test_the_figures_of_a_run_that_is_another_by_now_are_not_the_jobs(
    change: Callable[[Path], None], took: Path
) -> None:
    change(took)
    (job,) = summary.collect(Path("sweep"))
    assert (job.status, job.reason, job.figures) == ("FAILED", LOST, {})


def test_the_preview_tells_that_the_run_is_another_by_now(took: Path) -> None:
    longer(took)
    done = resumed("sweep", "sweep.preview=true")
    assert "1 job: 1 new" in done.out and LOST in done.out


def test_who_reads_the_jobs_folder_is_told_that_the_run_is_another_by_now(took: Path) -> None:
    longer(took)
    with pytest.raises(ConfigError, match=re.escape(f"sweep/0: {LOST}; its own command trains it in this folder")):
        experiments.load("sweep/0")


@pytest.mark.slow
def test_mlflow_gets_no_second_run_of_it(workplace: Path) -> None:
    from mlflow import MlflowClient

    for name in ("one", "two"):
        done = command("-m", *SMALL, "tracking=mlflow", "optim.lr=0.01,0.02", REUSE, f"hydra.sweep.dir={name}")
        assert done.code == 0
        assert "runs are not in MLflow" not in done.out
    client = MlflowClient(f"sqlite:///{workplace / 'mlflow.db'}")
    experiments_there = {found.name: found.experiment_id for found in client.search_experiments()}
    assert len(client.search_runs([experiments_there["experiments"]])) == 2
    assert len(client.search_runs([experiments_there["experiments-sweeps"]])) == 2
