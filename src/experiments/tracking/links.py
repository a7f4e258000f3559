"""Addresses of runs and experiments in the MLflow UI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote

from experiments.config.store_uri import masked
from experiments.tracking.delivered import Delivered

# Where `python -m experiments.ui` serves a store that has no server of its own.
LOCAL = "http://127.0.0.1:5000"
# Without it MLflow opens its GenAI pages, which show no runs and no curves.
TRAINING = "workflowType=machine_learning"


def runs(uri: str, delivered: Sequence[Delivered], metric: str = "valid/loss") -> str:
    """Return the address of one run's page, or of a comparison of the runs' curves of a metric over steps."""
    if len(delivered) == 1:
        return f"{_base(uri)}/#/experiments/{delivered[0].experiment_id}/runs/{delivered[0].run_id}?{TRAINING}"
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


def experiment(uri: str, experiment_id: str, parent: str = "") -> str:
    """Return the address of an experiment's runs with their charts; with a sweep's parent run, of the sweep's alone."""
    chosen = f"searchFilter=tags.mlflow.parentRunId%3D%27{parent}%27&" if parent else ""
    return f"{_base(uri)}/#/experiments/{experiment_id}/runs?{chosen}compareRunsMode=CHART&{TRAINING}"


def version(uri: str, name: str, number: int) -> str:
    """Return the address of a registered model's version."""
    return f"{_base(uri)}/#/models/{quote(name, safe='')}/versions/{number}?{TRAINING}"


def _base(uri: str) -> str:
    return masked(uri).rstrip("/") if uri.startswith("http") else LOCAL
