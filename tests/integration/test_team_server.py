"""`tracking.uri=http://...` against `mlflow server` on PostgreSQL: eight jobs at once, the server gone for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from experiments.tracking import delivered
from tests.support import raw_journal
from tests.support.places import Cli
from tests.support.team_server import Postgres, TeamServer, programs
from tests.support.tracked import TINY, Training, brought, eventually, journals, run_of, runs, training, written

POSTGRES = programs()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(POSTGRES is None, reason="PostgreSQL is not installed (Debian's package: postgresql)"),
]

JOBS = 8
# Epochs of about a second, so that there is time to kill somebody.
UNHURRIED = ["dataset=synthetic", "dataset.train=2000", "dataset.valid=200", "figures=false", "model=cnn_adaptive"]


@pytest.fixture
def database() -> Iterator[str]:
    """The address of a PostgreSQL that has nothing in it yet."""
    assert POSTGRES is not None
    started = Postgres(POSTGRES)
    try:
        started.start()
        yield started.uri
    finally:
        started.stop()


@pytest.fixture
def server(database: str, workplace: Path) -> Iterator[TeamServer]:
    started = TeamServer(workplace / "server", database)
    try:
        started.start()
        yield started
    finally:
        started.kill()


@contextlib.contextmanager
def at_once(place: Path, server: TeamServer, *arguments: str) -> Iterator[list[Training]]:
    """Eight command lines, begun at once."""
    with contextlib.ExitStack() as running:
        yield [
            running.enter_context(
                training(
                    place,
                    *arguments,
                    f"tracking.uri={server.address}",
                    f"hydra.run.dir=outputs/runs/{number}",
                    f"seed={number}",
                )
            )
            for number in range(JOBS)
        ]


def require_all_there_once(server: TeamServer, place: Path) -> None:
    """Each run is in the server once, FINISHED, with its journal's figures, and its files can be read from there."""
    folders = journals(place / "outputs")
    found = runs(server.address)
    assert [run.info.status for run in found] == ["FINISHED"] * JOBS
    assert {run.data.tags["experiments.folder"] for run in found} == {str(folder) for folder in folders}
    for folder in folders:
        run_id = run_of(server.address, folder).info.run_id
        assert brought(server.address, folder) == written(folder)
        for name, own in (("weights/weights.pt", "weights.pt"), ("config/config.yaml", "config.yaml")):
            copy = download_artifacts(run_id=run_id, artifact_path=name, tracking_uri=server.address)
            assert Path(copy).read_bytes() == (folder / own).read_bytes()


def test_eight_jobs_at_once_are_all_there(server: TeamServer, workplace: Path) -> None:
    with at_once(workplace, server, *TINY, "epochs=5") as trainings:
        assert [one.end(400) for one in trainings] == [0] * JOBS, [one.output for one in trainings]
    folders = journals(workplace / "outputs")
    eventually(lambda: all(delivered.state(folder).complete for folder in folders))
    require_all_there_once(server, workplace)
    names = [one.name for one in MlflowClient(server.address).search_experiments()]
    assert sorted(names) == ["Default", "experiments"]
    files = [path.name for path in server.artifacts.rglob("weights.pt")]
    assert len(files) == JOBS  # they went through the server into its own store, not into a folder of ours


@pytest.mark.nightly
def test_a_server_that_is_restarted_midway_loses_nothing_and_doubles_nothing(
    server: TeamServer, workplace: Path, cli: Cli
) -> None:
    def midway() -> bool:
        states = [delivered.state(folder) for folder in journals(workplace / "outputs")]
        return len(states) == JOBS and any(state.run_id for state in states)

    with at_once(workplace, server, *UNHURRIED, "epochs=30") as trainings:
        eventually(midway)
        server.kill()
        running = [raw_journal.summary(folder)["status"] for folder in journals(workplace / "outputs")]
        assert "RUNNING" in running, running
        server.start()
        assert [one.end(400) for one in trainings] == [0] * JOBS, [one.output for one in trainings]
    synced = cli(module="experiments.sync")  # what an uploader gave up on
    assert synced.returncode == 0, synced.stdout + synced.stderr
    require_all_there_once(server, workplace)
    assert cli(module="experiments.sync").stdout.splitlines()[-1] == f"{JOBS} up to date"
    require_all_there_once(server, workplace)
