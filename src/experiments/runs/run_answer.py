"""What a run came to, for `--json`; docs/json.md describes the fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.runs import references
from experiments.runs.job_record import JobRecord
from experiments.runs.settings_diff import settings
from experiments.tracking import delivered, journal, record


@dataclass(frozen=True)
class RunAnswer:
    """A run, or a job of a sweep.

    Args:
        job: its name in its sweep; that of its folder for a single run.
        folder: absolute; of a job that took an earlier run, that run's.
        status: FINISHED, PAUSED, FAILED, KILLED, RUNNING, or `not run`.
        reason: why it is not FINISHED; else empty.
        reused: whether it took an earlier run instead of training.
        settings: the chosen options by group, and the settings by dotted key, as on a command line.
        epochs: how many have ended.
        best_valid_loss: the smallest of the epochs; None where none is finite.
        best_epoch: the epoch of it, from 0.
        metrics: the last value of each.
        run_id: in MLflow; None where it has not arrived there.
    """

    job: str
    folder: Path
    status: str
    reason: str
    reused: bool
    settings: Mapping[str, str]
    epochs: int
    best_valid_loss: float | None
    best_epoch: int | None
    metrics: Mapping[str, float]
    run_id: str | None


def of_job(job: JobRecord) -> RunAnswer:
    """Return what a job came to."""
    losses = {epoch: values.get("valid/loss", math.nan) for epoch, values in enumerate(job.history)}
    best = min((epoch for epoch, loss in losses.items() if math.isfinite(loss)), key=losses.__getitem__, default=None)
    return RunAnswer(
        job=job.job,
        folder=job.folder.resolve(),
        status=job.status,
        reason=job.reason,
        reused=job.reused is not None,
        settings=settings(job),
        epochs=len(job.history),
        best_valid_loss=None if best is None else losses[best],
        best_epoch=best,
        metrics=job.figures,
        run_id=delivered.state(job.folder).run_id or None,
    )


def of_run(folder: Path) -> RunAnswer | None:
    """Return what the run in a folder came to; None if none began there."""
    if references.referred(folder) is not None:
        return of_job(references.job_record(folder, folder.name))
    if not (folder / journal.FILE).is_file():
        return None
    return of_job(JobRecord.of(record.read(folder), folder.name))
