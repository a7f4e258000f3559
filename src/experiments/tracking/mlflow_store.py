"""Write runs to MLflow; `models` writes trained models. Never imported by a training process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# It prints a run's address, with the password that the store's address may hold.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

from mlflow import MlflowClient
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from experiments.config.store_uri import sqlite_path
from experiments.errors import command
from experiments.tracking import sqlite_store
from experiments.tracking.record import PAUSED, Measured, Start
from experiments.tracking.sqlite_store import StoreError

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# With MLflow's defaults one call to a dead server takes four minutes.
PATIENCE = {RETRIES: "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
JOURNAL_TAG = "experiments.journal"
BATCH = 100  # MLflow takes at most so many params or tags at once
VALUE = 6000  # characters of a param
# Settings that change no result and would fill a comparison; the artifact config.yaml has them.
NO_PARAMS = ("tracking", "output_root", "figures", "checkpoint", "inspect", "name", "tags")


class Store:
    """An MLflow store; `artifacts` is the folder of experiments made here, unless a server decides by itself."""

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        self.uri = uri
        self.artifacts = artifacts if not uri.startswith(("http", "databricks")) else None
        database = sqlite_path(uri)
        self.client = sqlite_store.opened(uri, database, self.artifacts) if database else MlflowClient(uri)

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
        params = [
            Param(key, str(value)[:VALUE])
            for key, value in start.params.items()
            if key in start.varied or key.partition(".")[0] not in NO_PARAMS
        ]
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
        """Set the final status and end time (ms); a paused run is SCHEDULED, since MLflow has no such status."""
        self.client.set_terminated(run_id, status="SCHEDULED" if status == PAUSED else status, end_time=time)


@contextlib.contextmanager
def _asked_once() -> Iterator[None]:
    """Keep MLflow from repeating a request whose answer was lost: the server would create a second run."""
    before = os.environ.get(RETRIES, PATIENCE[RETRIES])
    os.environ[RETRIES] = "0"
    try:
        yield
    finally:
        os.environ[RETRIES] = before
