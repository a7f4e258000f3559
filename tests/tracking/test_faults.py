"""A tracker that fails: the training goes on, nothing is lost, and what is missing comes later, once."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import experiments
from experiments import sync
from experiments.api import resume
from experiments.errors import TrainingError
from experiments.tracking import client as process
from experiments.tracking import delivered, journal
from experiments.tracking.delivery import Delivery
from experiments.tracking.mlflow_store import Store
from experiments.tracking.sqlite_store import StoreError
from tests.support import fault_tracker, raw_journal
from tests.support.fault_tracker import LOST, SLOW, FaultyTracker
from tests.support.places import Cli
from tests.support.tracked import (
    TINY,
    brought,
    eventually,
    journals,
    kill_uploaders,
    make_store,
    run_of,
    runs,
    store_of,
    write_run,
    written,
)

Out = pytest.CaptureFixture[str]


@pytest.fixture
def tracker(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyTracker]:
    with fault_tracker.running(workplace, monkeypatch) as faulty:
        yield faulty
        kill_uploaders()


def to(tracker: FaultyTracker, *more: str) -> list[str]:
    return [*TINY, f"tracking.uri={tracker.address}", "tracking.wait_seconds=3", *more]


def synced(out: Out) -> str:
    out.readouterr()
    assert sync.main([]) == 0
    return out.readouterr().out.splitlines()[-1]


def assert_there_once(uri: str, folder: Path, status: str = "FINISHED") -> None:
    assert brought(uri, folder) == written(folder)
    assert run_of(uri, folder).info.status == status
    assert len(runs(uri)) == 1


@pytest.mark.slow
def test_a_server_that_is_down_costs_one_warning_and_sync_brings_all_later(
    tracker: FaultyTracker, cli: Cli, workplace: Path, capsys: Out
) -> None:
    done = cli(*to(tracker))
    assert done.returncode == 0
    assert done.stdout.count("1 of 1 runs are not in MLflow") == 1
    assert f"({tracker.address})" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    (folder,) = journals(workplace)
    assert raw_journal.summary(folder)["status"] == "FINISHED"
    assert [step for step, _ in written(folder)["train/loss"]] == [0, 1]
    tracker.start()
    eventually(lambda: sync.main([]) == 0)
    assert_there_once(tracker.store, folder)
    assert synced(capsys) == "1 up to date"
    assert_there_once(tracker.store, folder)


@pytest.mark.slow
def test_a_password_in_the_address_of_a_server_that_works_is_written_nowhere(
    tracker: FaultyTracker, cli: Cli, workplace: Path
) -> None:
    tracker.start()
    done = cli(*TINY, f"tracking.uri={tracker.address.replace('//', '//ada:canary-password@')}")
    assert done.returncode == 0 and "MLflow  http://ada:***@" in done.stdout, done.stdout + done.stderr
    assert "canary-password" not in done.stdout + done.stderr
    (folder,) = journals(workplace)
    assert_there_once(tracker.store, folder)
    eventually(lambda: not list((workplace / "outputs" / "undelivered").glob("*.run")))
    kept = [path for path in (workplace / "outputs").rglob("*") if path.is_file()]
    assert [path for path in kept if b"canary-password" in path.read_bytes()] == []


def test_a_server_that_is_down_fails_a_run_that_requires_it(tracker: FaultyTracker, cli: Cli, workplace: Path) -> None:
    done = cli(*to(tracker, "tracking.required=true", "epochs=100000"))
    assert done.returncode == 1
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"tracking.required: {tracker.address} does not take the run" in message
    (folder,) = journals(workplace)
    assert raw_journal.summary(folder)["status"] == "FAILED"
    assert "train/loss" not in written(folder)


@pytest.mark.slow
def test_a_run_that_requires_its_server_goes_on_once_that_is_up(tracker: FaultyTracker) -> None:
    with pytest.raises(TrainingError):
        experiments.run(to(tracker, "tracking.required=true"))
    kill_uploaders()
    (folder,) = journals(tracker.place)
    tracker.start()
    assert resume(folder).run_id
    assert_there_once(tracker.store, folder)


@pytest.mark.slow
def test_a_run_that_goes_on_requires_its_server_as_well(tracker: FaultyTracker) -> None:
    tracker.start()
    folder = Path(str(experiments.run(to(tracker, "tracking.required=true")).folder))
    kill_uploaders()
    tracker.stop()
    with pytest.raises(TrainingError, match=tracker.address):
        resume(folder, ["epochs=3"])
    assert raw_journal.summary(folder)["status"] == "FAILED"
    assert [step for step, _ in written(folder)["train/loss"]] == [0, 1]


@pytest.mark.slow
def test_a_server_that_fails_midway_does_not_stop_the_training(
    tracker: FaultyTracker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: Out
) -> None:
    real = journal.Journal.metrics

    def metrics(own: journal.Journal, values: dict[str, float], step: int) -> None:
        if step == 2:
            eventually(lambda: bool(delivered.state(own.path.parent).run_id))
            tracker.always = 500
        real(own, values, step)

    monkeypatch.setattr(journal.Journal, "metrics", metrics)
    tracker.start()
    result = experiments.run(to(tracker, "epochs=6"))
    folder = Path(str(result.folder))
    assert raw_journal.summary(folder)["status"] == "FINISHED"
    assert len(result.history) == 6
    assert "1 of 1 runs are not in MLflow" in caplog.text
    tracker.always = None
    eventually(lambda: sync.main([]) == 0)
    assert_there_once(tracker.store, folder)
    assert synced(capsys) == "1 up to date"


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        *itertools.product(
            ["experiments/create", "runs/create", "runs/log-inputs", "runs/log-batch", "runs/update"], [500, 429, LOST]
        ),
        ("runs/create", SLOW),
        ("runs/log-batch", SLOW),
    ],
)
def test_an_answer_that_fails_is_asked_for_again_and_doubles_nothing(
    where: str, fault: int | str, tracker: FaultyTracker
) -> None:
    tracker.start()
    folder = write_run(tracker.place / "run", tracker.address)
    times = 1 if fault == SLOW else 3
    tracker.script[where] = [fault] * times
    one = Delivery(folder, Store(tracker.address))
    for _ in range(6):
        try:
            assert one.advance()
            assert one.finish()
            break
        except Exception as error:  # noqa: BLE001  # as the uploader does, which then tries again
            assert not getattr(error, "final", False)
    assert len(tracker.script[where]) < times
    assert_there_once(tracker.store, folder)


def test_a_server_that_is_gone_is_given_up_by_sync_within_seconds(
    tracker: FaultyTracker, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    for name in fault_tracker.HURRY:
        monkeypatch.delenv(name)
    write_run(tracker.place / "outputs" / "run", tracker.address)
    began = time.monotonic()
    assert sync.main([]) == 1
    assert time.monotonic() - began < 30
    assert tracker.address.removeprefix("http://").split(":")[1] in capsys.readouterr().err


LOCK = """
import sqlite3, sys

database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
try:
    __import__("time").sleep(float(sys.argv[2]))
finally:
    database.execute("ROLLBACK")
"""


def locking(database: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that has a SQLite database to itself for a while."""
    command = [sys.executable, "-c", LOCK, str(database), str(seconds)]
    locker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert locker.stdout is not None
    assert locker.stdout.readline() == "locked\n"
    return locker


def test_a_database_that_is_locked_for_two_seconds_is_waited_for(workplace: Path) -> None:
    make_store(workplace)
    uri = store_of(workplace)
    folder = write_run(workplace / "run", uri)
    locker = locking(workplace / "mlflow.db", 2)
    assert Delivery(folder, Store(uri)).advance()
    assert_there_once(uri, folder)
    locker.communicate(timeout=30)


@pytest.mark.slow
def test_a_database_that_is_locked_longer_than_the_run_is_left_to_sync(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_store(workplace)
    locker = locking(workplace / "mlflow.db", 600)
    result = experiments.run([*TINY, "tracking.wait_seconds=20"])
    locker.kill()
    locker.communicate(timeout=30)
    folder = Path(str(result.folder))
    assert raw_journal.summary(folder)["status"] == "FINISHED"
    (told,) = [record.getMessage() for record in caplog.records if "not in MLflow" in record.getMessage()]
    assert "database is locked" in told.splitlines()[0]
    assert "SELECT" not in told
    assert sync.main([]) == 0
    assert_there_once(store_of(workplace), folder)
    process.close_all()


@pytest.mark.slow
def test_a_locked_database_is_not_given_up_for_good(workplace: Path) -> None:
    make_store(workplace)
    locker = locking(workplace / "mlflow.db", 600)
    with pytest.raises(StoreError, match="database is locked") as told:
        Store(store_of(workplace))
    assert not told.value.final
    locker.kill()
    locker.communicate(timeout=30)


def test_a_database_whose_header_is_damaged_is_told_and_left_as_it_is(workplace: Path, capsys: Out) -> None:
    make_store(workplace)
    database = workplace / "mlflow.db"
    content = database.read_bytes()
    database.write_bytes(b"\xff" * 16 + content[16:])
    before = database.read_bytes()
    write_run(workplace / "outputs" / "run", store_of(workplace))
    assert sync.main([]) == 1
    assert f"{database} cannot be opened" in capsys.readouterr().err
    assert database.read_bytes() == before


def test_a_database_of_a_newer_mlflow_is_told_and_left_as_it_is(workplace: Path, capsys: Out) -> None:
    make_store(workplace)
    database = workplace / "mlflow.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    connection.close()
    before = database.read_bytes()
    write_run(workplace / "outputs" / "run", store_of(workplace))
    assert sync.main([]) == 1
    told = capsys.readouterr().err
    assert "was made by another version of MLflow" in told
    assert "ffffffffffff" in told
    assert database.read_bytes() == before


@pytest.mark.slow
def test_a_run_in_a_deleted_experiment_tells_the_way_back_and_comes_after_it(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_store(workplace)
    client = Store(store_of(workplace)).client
    number = client.create_experiment("experiments", artifact_location=(workplace / "artifacts").as_uri())
    client.delete_experiment(number)
    folder = Path(str(experiments.run(TINY).folder))
    process.close_all()
    assert raw_journal.summary(folder)["status"] == "FINISHED"
    assert f"mlflow experiments restore --experiment-id {number}" in caplog.text
    client.restore_experiment(number)
    assert sync.main([]) == 0
    assert_there_once(store_of(workplace), folder)
