"""`hydra.launcher.detach=true`: the command leaves once the jobs are queued, and `resume` collects them."""

from __future__ import annotations

import json
import os
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.tracking import journal, record
from tests.support import raw_journal
from tests.support.commands import SMALL, same_run, status
from tests.support.places import Cli
from tests.support.slurm import Slurm
from tests.support.tracked import eventually, runs, store_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("hydra_plugins.hydra_submitit_launcher") is None, reason="the extra [slurm] is not installed"
    ),
]

TRACKED = [setting for setting in SMALL if not setting.startswith(("tracking=", "checkpoint."))]
SWEEP = ["-m", *TRACKED, "tracking=mlflow", "device.threads=1", "seed=1,2,3", "hydra.sweep.dir=sweep"]
DETACHED = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.detach=true"]


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Slurm:
    return Slurm(tmp_path_factory.mktemp("cluster") / "bin")


def test_the_command_leaves_and_resume_collects(slurm: Slurm, cli: Cli, workplace: Path) -> None:
    done = cli(*SWEEP, *DETACHED, env=slurm.env)
    assert done.returncode == 0, done
    assert "queued  3 jobs" in done.stdout and "experiments.resume sweep" in done.stdout
    assert status(workplace / "sweep") == "PAUSED" and not (workplace / "sweep" / "0").exists()
    assert [run.info.status for run in runs(store_of(workplace))] == ["SCHEDULED"]
    slurm.start()
    collected = cli("sweep", module="experiments.resume", env=slurm.env)
    assert collected.returncode == 0, collected
    assert len(slurm.queued) == 3
    assert [status(workplace / "sweep" / str(job)) for job in range(3)] == ["FINISHED"] * 3
    assert [run.info.status for run in runs(store_of(workplace))] == ["FINISHED"] * 4
    straight = cli(*SWEEP, "hydra.sweep.dir=straight")
    assert straight.returncode == 0, straight
    assert all(same_run(workplace / "sweep" / str(job), workplace / "straight" / str(job)) for job in range(3))


@pytest.mark.nightly
def test_a_job_that_was_killed_in_the_queue_is_run_by_a_second_resume(slurm: Slurm, cli: Cli, workplace: Path) -> None:
    longer = [setting for setting in SWEEP if not setting.startswith("epochs")]
    done = cli(*longer, "epochs=300", *DETACHED, env=slurm.env)
    assert done.returncode == 0, done
    slurm.start()
    job = workplace / "sweep" / "1"
    eventually(lambda: (job / journal.FILE).is_file() and bool(raw_journal.history(job)))
    owner = record.read(job).owner
    assert owner is not None
    os.kill(owner.pid, signal.SIGKILL)
    assert cli("sweep", module="experiments.resume", env=slurm.env).returncode == 1
    assert [status(workplace / "sweep" / str(job)) for job in range(3)] == ["FINISHED", "KILLED", "FINISHED"]
    again = cli("sweep", module="experiments.resume", env=slurm.env)
    assert again.returncode == 0, again
    assert status(workplace / "sweep") == "FINISHED"


def test_what_waits_in_the_queue_is_uploaded_by_sync(slurm: Slurm, cli: Cli, workplace: Path) -> None:
    assert cli(*SWEEP, *DETACHED, env=slurm.env).returncode == 0
    slurm.start()
    eventually(lambda: len(list(slurm.folder.glob("*.over"))) == 3)
    synced = cli("sweep", module="experiments.sync")
    assert synced.returncode == 0, synced
    states = sorted(run.info.status for run in runs(store_of(workplace)))
    assert states == ["FINISHED", "FINISHED", "FINISHED", "SCHEDULED"], synced


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["hydra.launcher.detach=perhaps"], "'perhaps' is given; it should be true or false"),
        (
            ["hydra.launcher.detach=true", "hydra/sweeper=optuna", "optim.lr=interval(0.1,0.2)"],
            "a search chooses its trials by the results of earlier ones",
        ),
    ],
)
def test_what_cannot_be_left_alone_is_refused(
    given: list[str], told: str, slurm: Slurm, cli: Cli, workplace: Path
) -> None:
    done = cli(*SWEEP, "hydra/launcher=submitit_slurm", *given, env=slurm.env)
    assert (done.returncode, done.stderr) == (2, f"error: hydra.launcher.detach: {told}\n")
    assert not (workplace / "sweep").exists() and slurm.queued == []


@pytest.mark.parametrize("more", [["hydra.launcher.detach=true"], []])
def test_a_queue_that_refuses_the_jobs_ends_the_sweep(more: list[str], slurm: Slurm, cli: Cli, workplace: Path) -> None:
    (slurm.folder / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: none' >&2\nexit 1\n")
    done = cli(*SWEEP, "hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", *more, env=slurm.env)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr, done
    assert "error: sbatch refused the jobs: sbatch: error: invalid partition: none" in done.stderr
    assert status(workplace / "sweep") == "FAILED"
    assert [run.info.status for run in runs(store_of(workplace))] == ["FAILED"]


def test_ids_are_kept_by_the_jobs_numbers(slurm: Slurm, cli: Cli, workplace: Path) -> None:
    assert cli(*SWEEP, *DETACHED, env=slurm.env).returncode == 0
    assert json.loads((workplace / "sweep" / "queued.json").read_text()) == ["1_0", "1_1", "1_2"]
    slurm.start()
    eventually(lambda: len(list(slurm.folder.glob("*.over"))) == 3)
