"""Whole command lines, real servers and kill -9: what they leave in MLflow. Slow; each process ends with its test."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from experiments.tracking import delivered, journal
from tests.support import raw_journal
from tests.support.places import Cli
from tests.support.tracked import (
    TINY,
    Training,
    brought,
    eventually,
    free_port,
    journals,
    run_of,
    runs,
    store_of,
    training,
    write_run,
    written,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# How often the race for a store that is not there yet is run.
RACES = int(os.environ.get("STORE_RACES", "1"))
# Epochs of about a second, so that there is time to kill somebody.
UNHURRIED = ["dataset=synthetic", "dataset.train=6000", "dataset.valid=500", "figures=false", "model=cnn_adaptive"]

STARTER = """
import os, sys, time

while not os.path.exists("go"):
    time.sleep(0.001)
os.execv(sys.executable, [sys.executable, "-m", "experiments", *sys.argv[1:]])
"""

# The same race at its narrowest: everything is imported, and all of them open the store in the same instant.
OPENERS = """
import multiprocessing, sys
from pathlib import Path
from experiments.tracking.delivery import Delivery
from experiments.tracking.mlflow_store import Store

def deliver(number, place, uri, barrier):
    barrier.wait()
    while True:
        try:
            one = Delivery(place / str(number), Store(uri, place / "artifacts"))
            sys.exit(0 if one.advance() and one.finish() else 1)
        except Exception as error:  # tried again, as the uploader does
            if getattr(error, "final", False):
                raise
            print(error, file=sys.stderr)

place, uri = Path(sys.argv[1]), sys.argv[2]
context = multiprocessing.get_context("fork")
barrier = context.Barrier(8)
openers = [context.Process(target=deliver, args=(number, place, uri, barrier)) for number in range(8)]
for opener in openers:
    opener.start()
for opener in openers:
    opener.join()
sys.exit(max(opener.exitcode for opener in openers))
"""


class Server:
    """`mlflow server` over the SQLite store in a folder, in a session of its own."""

    def __init__(self, place: Path) -> None:
        self.place, self.port = place, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ["--backend-store-uri", store_of(self.place), "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--workers", "1", *words],
            cwd=self.place,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        eventually(self.answers)

    def answers(self) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{self.address}/health", timeout=5).ok
        return False

    def kill(self) -> None:
        """All of it: a worker whose server is gone goes on answering."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=30)
            self.process = None


@pytest.fixture
def server(workplace: Path) -> Iterator[Server]:
    started = Server(workplace)
    yield started
    started.kill()


def summarised(cli: Cli, *arguments: str) -> str:
    """The last line that sync prints."""
    done = cli(*arguments, module="experiments.sync")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("race", range(RACES))
@pytest.mark.parametrize(
    "apart", [False, pytest.param(True, marks=pytest.mark.nightly)], ids=["one TMPDIR", "a TMPDIR each"]
)
def test_eight_processes_at_once_make_one_store_with_eight_finished_runs(
    apart: bool, race: int, workplace: Path
) -> None:
    started = []
    for number in range(8):
        temporary = workplace / f"tmp{number if apart else ''}"
        temporary.mkdir(exist_ok=True)
        command = [sys.executable, "-c", STARTER, *TINY, f"hydra.run.dir=outputs/runs/{number}"]
        environment = os.environ | {"TMPDIR": str(temporary)}
        started.append(
            subprocess.Popen(
                command, cwd=workplace, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    (workplace / "go").touch()
    for process in started:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    folders = journals(workplace)
    eventually(lambda: all(delivered.state(folder).complete for folder in folders))
    found = runs(store_of(workplace))
    assert [run.info.status for run in found] == ["FINISHED"] * 8
    assert len({run.data.tags["experiments.folder"] for run in found}) == 8
    assert all(brought(store_of(workplace), folder) == written(folder) for folder in folders)
    client = MlflowClient(store_of(workplace))
    assert sorted(one.name for one in client.search_experiments()) == ["Default", "experiments"]
    assert not client.search_runs(["0"])
    with contextlib.closing(sqlite3.connect(workplace / "mlflow.db")) as database:
        assert len(database.execute("SELECT version_num FROM alembic_version").fetchall()) == 1


@pytest.mark.parametrize("race", range(RACES))
def test_eight_uploaders_in_the_same_instant_make_one_store(race: int, workplace: Path) -> None:
    uri = store_of(workplace)
    folders = [write_run(workplace / str(number), uri) for number in range(8)]
    done = subprocess.run(
        [sys.executable, "-c", OPENERS, str(workplace), uri], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert [run.info.status for run in runs(uri)] == ["FINISHED"] * 8
    assert all(brought(uri, folder) == written(folder) for folder in folders)
    client = MlflowClient(uri)
    assert sorted(one.name for one in client.search_experiments()) == ["Default", "experiments"]
    assert not client.search_runs(["0"])
    with contextlib.closing(sqlite3.connect(workplace / "mlflow.db")) as database:
        assert len(database.execute("SELECT version_num FROM alembic_version").fetchall()) == 1


def test_a_server_that_is_killed_midway_gets_the_whole_series_from_sync(
    server: Server, workplace: Path, cli: Cli
) -> None:
    server.start()
    with training(workplace, *UNHURRIED, "epochs=6", f"tracking.uri={server.address}") as run:
        run.until("epoch 2")
        (folder,) = journals(workplace)
        eventually(lambda: bool(delivered.state(folder).run_id))
        server.kill()
        assert run.end() == 0
    assert run.output.count("1 of 1 runs are not in MLflow") == 1
    assert "Traceback" not in run.output
    assert [step for step, _ in written(folder)["train/loss"]] == list(range(6))
    assert brought(store_of(workplace), folder) != written(folder)
    server.start()
    assert summarised(cli) in ("1 uploaded", "1 up to date")
    assert brought(store_of(workplace), folder) == written(folder)
    before = repr(run_of(store_of(workplace), folder))
    assert summarised(cli) == "1 up to date"
    assert repr(run_of(store_of(workplace), folder)) == before
    assert run_of(store_of(workplace), folder).info.status == "FINISHED"
    assert len(runs(store_of(workplace))) == 1


def test_a_run_that_is_killed_is_not_running_five_seconds_later(workplace: Path) -> None:
    with training(workplace, *TINY, "epochs=100000") as run:
        run.until("epoch 3")
        (folder,) = journals(workplace)
        eventually(lambda: bool(delivered.state(folder).run_id))
        run.kill()
        killed = time.monotonic()
        eventually(lambda: run_of(store_of(workplace), folder).info.status == "KILLED", 5)
        print(f"KILLED in MLflow after {time.monotonic() - killed:.2f} s")
        eventually(lambda: bool(delivered.state(folder).complete))
    assert brought(store_of(workplace), folder) == written(folder)


@pytest.mark.parametrize(
    "uploader_too",
    [pytest.param(False, marks=pytest.mark.nightly), True],
    ids=["uploader lives", "uploader killed too"],
)
def test_a_sweep_that_is_killed_half_way_goes_on_without_what_is_done(
    uploader_too: bool, workplace: Path, cli: Cli
) -> None:
    sweep = workplace / "outputs" / "sweeps" / "killed"
    over = ["-m", *UNHURRIED, "epochs=3", "optim.lr=0.1,0.2", "seed=0,1,2", "hydra.sweep.dir=outputs/sweeps/killed"]
    with training(workplace, *over) as run:
        _in_its_third_job(run, sweep)
        run.kill(uploaders=uploader_too)
    done = {folder: (folder / journal.FILE).read_bytes() for folder in (sweep / "0", sweep / "1")}
    assert [raw_journal.summary(folder)["status"] for folder in done] == ["FINISHED"] * 2
    assert not (sweep / "3").exists()

    again = cli(str(sweep), module="experiments.resume")
    assert again.returncode == 0, again.stderr
    jobs = [sweep / str(number) for number in range(6)]
    assert {folder: (folder / journal.FILE).read_bytes() for folder in done} == done
    eventually(lambda: all(delivered.state(folder).complete for folder in (sweep, *jobs)))
    uri = store_of(workplace)
    parent = run_of(uri, sweep)
    children = runs(uri, ["experiments"])
    assert [run.info.status for run in children] == ["FINISHED"] * 6
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert {run.data.tags["experiments.folder"] for run in children} == {str(folder) for folder in jobs}
    assert parent.info.status == "FINISHED"
    assert len(runs(uri, ["experiments-sweeps"])) == 1
    for folder in jobs:
        assert brought(uri, folder) == written(folder)
        assert [step for step, _ in written(folder)["train/loss"]] == [0, 1, 2]


def _in_its_third_job(run: Training, sweep: Path) -> None:
    def reached() -> bool:
        assert run.process.poll() is None, "it was too quick to be killed"
        return (sweep / "2" / journal.FILE).exists() and len(raw_journal.history(sweep / "2")) > 0

    eventually(reached)
