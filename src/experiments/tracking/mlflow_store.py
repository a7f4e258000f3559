"""Write runs to MLflow; `models` writes trained models. Never imported by a training process."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# It prints a run's address, with the password that the store's address may hold.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from experiments.config.store_uri import masked, sqlite_path
from experiments.errors import command, first_line
from experiments.tracking import moved
from experiments.tracking.record import Measured, Start

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# With MLflow's defaults one call to a dead server takes four minutes.
PATIENCE = {RETRIES: "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
JOURNAL_TAG = "experiments.journal"
BATCH = 100  # MLflow takes at most so many params or tags at once
VALUE = 6000  # characters of a param
# Settings that change no result and would fill a comparison; the artifact config.yaml has them.
NO_PARAMS = ("tracking", "output_root", "figures", "checkpoint", "inspect", "name", "tags")


class StoreError(Exception):
    """The store refuses; `final` if a further attempt cannot succeed."""

    def __init__(self, message: str, *, final: bool = True) -> None:
        super().__init__(message)
        self.final = final


class Store:
    """An MLflow store.

    Args:
        uri: its address.
        artifacts: the folder for artifacts of experiments made here; a server decides by itself.
    """

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        self.uri = uri
        self.artifacts = artifacts if not uri.startswith(("http", "databricks")) else None
        database = sqlite_path(uri)
        if database is None:
            self.client = MlflowClient(uri)
            return
        # Processes that make or migrate the same database at once break it for good: one at a time.
        database.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(f"{database}.lock"):
                _make(database)
                self.client = MlflowClient(uri)
                self.client.search_experiments(max_results=1)
                if self.artifacts is not None:
                    moved.follow(database, self.artifacts)
        except Exception as error:
            raise _unopened(uri, error) from error

    def experiment(self, name: str) -> str:
        """Return the id of the experiment called `name`; create it if there is none."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            location = self.artifacts.resolve().as_uri() if self.artifacts else None
            try:
                return str(self.client.create_experiment(name, artifact_location=location))
            except MlflowException:
                # Another process made it in the meantime.
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            raise StoreError(
                f"the MLflow experiment '{name}' was deleted, which blocks its name; restore it with "
                f"`mlflow experiments restore --experiment-id {found.experiment_id}` or choose another: "
                "tracking.experiment=..."
            )
        return str(found.experiment_id)

    def create(self, start: Start, parent: str | None) -> str:
        """Return the MLflow id of the run with a journal's id; create the run if there is none."""
        experiment = self.experiment(str(start.experiment))
        found = self._found(experiment, start.id)
        if found:
            return found
        tags = {**start.tags, JOURNAL_TAG: start.id}
        if parent:
            tags["mlflow.parentRunId"] = parent
        if start.note:
            tags["mlflow.note.content"] = start.note
        try:
            with _asked_once():
                run = self.client.create_run(experiment, start_time=start.time, tags=tags, run_name=start.name)
        except MlflowException:
            # Perhaps only the answer was lost.
            found = self._found(experiment, start.id)
            if found is None:
                raise
            return found
        return str(run.info.run_id)

    def _found(self, experiment: str, journal: str) -> str | None:
        """Return the id of the run with a journal's id, if there is one."""
        runs = self.client.search_runs([experiment], f"tags.`{JOURNAL_TAG}` = '{journal}'", max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def describe(self, run_id: str, start: Start) -> None:
        """Log parameters and dataset inputs; the same again changes nothing."""
        shown = {key: value for key, value in start.params.items() if key in start.varied or not _is_aside(key)}
        params = [Param(key, str(value)[:VALUE]) for key, value in shown.items()]
        for first in range(0, len(params), BATCH):
            self.client.log_batch(run_id, params=params[first : first + BATCH])
        inputs = [
            DatasetInput(
                DatasetEntity(
                    name=given["name"],
                    digest=given["digest"],
                    source_type="local",
                    source=given["source"],
                    profile=given["profile"],
                ),
                tags=[InputTag("mlflow.data.context", given["context"])],
            )
            for given in start.inputs
        ]
        if inputs:
            self.client.log_inputs(run_id, datasets=inputs)

    def metrics(self, run_id: str, events: Sequence[Measured]) -> None:
        """Log metrics with their times, so that the same again adds no second point."""
        points = [
            Metric(name, value, event.time, event.step) for event in events for name, value in event.values.items()
        ]
        for first in range(0, len(points), 1000):
            self.client.log_batch(run_id, metrics=points[first : first + 1000])

    def tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def file(self, run_id: str, path: Path, folder: str = "") -> None:
        """Copy one file into the run's artifacts."""
        try:
            self.client.log_artifact(run_id, str(path), folder or None)
        except OSError as error:
            place = self.client.get_run(run_id).info.artifact_uri
            problem = f"{path} cannot be copied to {place} ({error}); once it can, {command('sync')} uploads it"
            raise StoreError(problem, final=False) from error

    def reopen(self, run_id: str, changed: Mapping[str, str]) -> None:
        """Set an ended run back to RUNNING, without its reason; settings that changed become tags, as params cannot."""
        self.client.update_run(run_id, status="RUNNING")
        self.tags(run_id, {"experiments.reason": ""} | {f"experiments.resumed.{key}": changed[key] for key in changed})

    def end(self, run_id: str, status: str, time: int) -> None:
        """Set the final status and end time (ms)."""
        self.client.set_terminated(run_id, status=status, end_time=time)


def _is_aside(key: str) -> bool:
    return key.partition(".")[0] in NO_PARAMS


def _make(database: Path) -> None:
    """Create a missing SQLite database, with all its tables or not at all.

    MLflow creates them one by one, and cannot use or repair the database if it is killed in between.
    """
    with contextlib.closing(sqlite3.connect(database)) as target:
        if target.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            return
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            made = Path(folder, "mlflow.db")
            MlflowClient(f"sqlite:///{made}").search_experiments(max_results=1)
            with contextlib.closing(sqlite3.connect(made)) as source:
                source.backup(target)  # one transaction


@contextlib.contextmanager
def _asked_once() -> Iterator[None]:
    """Keep MLflow from repeating a request whose answer was lost: the server would create a second run."""
    before = os.environ.get(RETRIES, PATIENCE[RETRIES])
    os.environ[RETRIES] = "0"
    try:
        yield
    finally:
        os.environ[RETRIES] = before


def _unopened(uri: str, error: Exception) -> StoreError:
    """Return why a database cannot be opened, and the remedy."""
    reason = first_line(error)
    if "database schema" in reason:
        return StoreError(
            f"{masked(uri)} was made by another version of MLflow than the one here, {mlflow.__version__}; upgrade "
            "whichever is older: MLflow (pip install --upgrade mlflow), or a copy of the database (mlflow db upgrade). "
            f"MLflow says: {reason}"
        )
    if "already exists" in reason or "duplicate column" in reason:
        return StoreError(
            f"{masked(uri)} cannot be opened: whatever made or upgraded it was stopped half-way ({reason}); move the "
            f"file away, and `{command('sync')} --again` makes a new one of the journals"
        )
    return StoreError(f"{masked(uri)} cannot be opened: {reason}", final="database is locked" not in reason)
