"""Addresses of runs and experiments in the MLflow UI."""

from __future__ import annotations

import contextlib
import json
import shlex
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from experiments.config.store_uri import masked, sqlite_path, store_uri
from experiments.errors import command
from experiments.tracking.delivered import Delivered

# Where `python -m experiments.ui` serves a store that has no server, unless another port was used for it last.
PORT = 5000
# Without it MLflow opens its GenAI pages, which show no runs and no curves.
TRAINING = "workflowType=machine_learning"


def runs(uri: str, delivered: Sequence[Delivered], metric: str = "valid/loss") -> str:
    """Return the address of one run's page, or of a comparison of the runs' curves of a metric over steps."""
    if len(delivered) == 1:
        return f"{_base(uri)}/{run(delivered[0])}"
    query = {
        "runs": json.dumps([run.run_id for run in delivered], separators=(",", ":")),
        "metric": json.dumps(metric),
        "experiments": json.dumps(sorted({run.experiment_id for run in delivered})),
        "plot_metric_keys": json.dumps([metric]),
        "x_axis": "step",
        "show_point": "true",
    }
    parts = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
    return f"{_base(uri)}/#/metric?{parts}&{TRAINING}"


def run(delivered: Delivered) -> str:
    """Return the address of one run's page, as MLflow's own pages link to it."""
    return f"#/experiments/{delivered.experiment_id}/runs/{delivered.run_id}?{TRAINING}"


def experiment(uri: str, experiment_id: str, parent: str = "") -> str:
    """Return the address of an experiment's runs with their charts; with a sweep's parent run, of the sweep's alone."""
    chosen = f"searchFilter=tags.mlflow.parentRunId%3D%27{parent}%27&" if parent else ""
    return f"{_base(uri)}/#/experiments/{experiment_id}/runs?{chosen}compareRunsMode=CHART&{TRAINING}"


def version(uri: str, name: str, number: int) -> str:
    """Return the address of a registered model's version."""
    return f"{_base(uri)}/#/models/{quote(name, safe='')}/versions/{number}?{TRAINING}"


def newest(uri: str) -> str:
    """Return the address of the newest run's experiment; of the list of experiments where none is known."""
    found = _newest_experiment(uri)
    return experiment(uri, found) if found else f"{_base(uri)}/#/experiments?{TRAINING}"


def ui_command(uri: str) -> str:
    """Return the command that serves the UI of a store; empty if it has a server."""
    return "" if uri.startswith("http") else f"{command('ui')}{option(uri)}"


def option(uri: str) -> str:
    """Return the option that names a store for a command; empty for the default store."""
    return "" if masked(uri) == masked(store_uri(None)) else f" --uri {shlex.quote(masked(uri))}"


def port(uri: str) -> int:
    """Return the port on which the UI of a store was served last; the default where none is noted."""
    note = _port_note(uri)
    with contextlib.suppress(OSError, ValueError):
        noted = int(note.read_text(encoding="ascii")) if note else PORT
        return noted if 0 < noted < 65536 else PORT
    return PORT


def remember(uri: str, used: int) -> None:
    """Note the port beside a SQLite store, so that later runs print links that work."""
    note = _port_note(uri)
    with contextlib.suppress(OSError):  # a folder of somebody else: links name the default port
        if note and used != port(uri):
            note.write_text(f"{used}\n", encoding="ascii")


def _port_note(uri: str) -> Path | None:
    database = sqlite_path(uri)
    return Path(f"{database}.ui-port") if database else None


def _newest_experiment(uri: str) -> str | None:
    """Read from a SQLite store which experiment has the newest run, sweeps' parents aside, without importing MLflow."""
    query = (
        "SELECT runs.experiment_id FROM runs JOIN experiments USING (experiment_id) WHERE runs.lifecycle_stage = "
        "'active' AND experiments.lifecycle_stage = 'active' AND NOT EXISTS (SELECT 1 FROM tags WHERE tags.run_uuid "
        "= runs.run_uuid AND key = 'experiments.sweep') ORDER BY start_time DESC LIMIT 1"
    )
    database = sqlite_path(uri)
    with contextlib.suppress(sqlite3.Error):  # not a database of this MLflow: the server reports it
        if database:
            with contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as store:
                found = store.execute(query).fetchone()
                return str(found[0]) if found else None
    return None


def _base(uri: str) -> str:
    return masked(uri).rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{port(uri)}"
