"""What is written to MLflow, and how: the one place that talks to its client. Never imported by a training process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset as DatasetEntity
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from experiments.tracking.uri import masked, sqlite_path

JOURNAL_TAG = "experiments.journal"
BATCH = 100  # MLflow takes at most so many params or tags at once
VALUE = 6000  # characters of a param


class StoreError(Exception):
    """The store refuses, for a reason that trying again will not mend."""

    final = True


class Store:
    """An MLflow store.

    Args:
        uri: its address.
        artifacts: the folder for artifacts of experiments made here; a server decides by itself.
    """

    def __init__(self, uri: str, artifacts: Path | None = None) -> None:
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
                self.client = MlflowClient(uri)
                self.client.search_experiments(max_results=1)
        except Exception as error:
            raise StoreError(f"{masked(uri)} cannot be opened: {error}") from error

    def experiment(self, name: str) -> str:
        """The id of the experiment called `name`, made if there is none."""
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
                f"the MLflow experiment '{name}' was deleted, which blocks its name; bring it back with "
                f"`mlflow experiments restore --experiment-id {found.experiment_id}` or choose another: "
                "tracking.experiment=..."
            )
        return str(found.experiment_id)

    def create(self, start: Mapping[str, Any], parent: str | None) -> str:
        """The run of a journal's start event: found by the journal's id, else made. Returns its MLflow id."""
        experiment = self.experiment(start["experiment"])
        query = f"tags.`{JOURNAL_TAG}` = '{start['id']}'"
        found = self.client.search_runs([experiment], query, max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {**start["tags"], JOURNAL_TAG: start["id"]}
        if parent:
            tags["mlflow.parentRunId"] = parent
        if start.get("note"):
            tags["mlflow.note.content"] = start["note"]
        run = self.client.create_run(experiment, start_time=start["time"], tags=tags, run_name=start["name"])
        return str(run.info.run_id)

    def describe(self, run_id: str, start: Mapping[str, Any]) -> None:
        """Parameters and dataset inputs; the same again changes nothing."""
        params = [Param(key, str(value)[:VALUE]) for key, value in start["params"].items()]
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
            for given in start["inputs"]
        ]
        if inputs:
            self.client.log_inputs(run_id, datasets=inputs)

    def metrics(self, run_id: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Figures under their own time, so that the same again is no second point."""
        points = [
            Metric(name, value, event["time"], event["step"])
            for event in events
            for name, value in event["values"].items()
        ]
        for first in range(0, len(points), 1000):
            self.client.log_batch(run_id, metrics=points[first : first + 1000])

    def tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def file(self, run_id: str, path: Path, folder: str = "") -> None:
        """Copy one file into the run's artifacts."""
        self.client.log_artifact(run_id, str(path), folder or None)

    def reopen(self, run_id: str, changed: Mapping[str, str]) -> None:
        """Set an ended run back to RUNNING; settings that changed become tags, since params cannot."""
        self.client.update_run(run_id, status="RUNNING")
        if changed:
            self.tags(run_id, {f"experiments.resumed.{key}": value for key, value in changed.items()})

    def end(self, run_id: str, status: str, time: int) -> None:
        """Set the final status and end time (ms)."""
        self.client.set_terminated(run_id, status=status, end_time=time)
