"""Reuse a finished run that has a job's run key, instead of training the same again.

With `reuse=finished` the job's folder gets one small file that names the run, and the job returns that run's result at
once. Readers of the folder (a sweep's table, compare, load) follow the file; MLflow gets no second run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from experiments.runs import terminal
from experiments.runs.index import finished
from experiments.runs.metadata import Job
from experiments.runs.preparation import Preparation
from experiments.runs.references import Reference, refer
from experiments.tracking import delivered, record
from experiments.training import build, weights
from experiments.training.result import Result

log = logging.getLogger(__name__)


def take(prepared: Preparation, job: Job, params: Mapping[str, str]) -> Result | None:
    """Return the result of a finished run with the job's run key, and refer to it; None if the job trains.

    `params` are its settings by dotted key, as a trained run would record them.
    """
    root = prepared.root
    if root.reuse == "never" or root.inspect.profile or root.inspect.breakpoint:
        return None
    found = finished(Path(root.output_root), prepared.key)
    if found is None:
        return None
    refer(job.folder, Reference(str(found), prepared.key, dict(job.choices), dict(params)))
    result = _result(prepared, found)
    log.info("reuse=finished: takes %s, the same training (run key %s)", terminal.relative(found), prepared.key)
    log.info("best valid/loss %r at epoch %d", result.best_valid_loss, result.best_epoch)
    return result


def _result(prepared: Preparation, found: Path) -> Result:
    model = build.build_model(prepared.root, prepared.splits.spec, prepared.seeds)
    weights.into(model, weights.load(found, key="reuse"), str(found), key="reuse")
    run = record.read(found)
    untrained = {name: value for name, value in run.figures.items() if name.startswith("untrained/")}
    history = list(run.history)
    stopped = "" if len(history) == prepared.root.epochs else f"the run that was taken ended after {len(history)}"
    return Result(model, untrained, history, stopped, found, delivered.state(found).run_id or None)
