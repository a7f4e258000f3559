"""What a sweep came to, and what a preview shows, for `--json`; docs/json.md describes the fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.runs import sweep_plan
from experiments.runs.run_answer import RunAnswer, of_job
from experiments.sweeps import best, summary
from experiments.tracking import delivered, record


@dataclass(frozen=True)
class SweepAnswer:
    """A sweep.

    Args:
        folder: absolute.
        status: FINISHED, PAUSED (left in a queue), FAILED, KILLED or RUNNING.
        reason: why it is not FINISHED; else empty.
        varied: the keys that the jobs were given values of.
        jobs: in the order of their numbers.
        best: the name of the best job; None where none has a finite validation loss.
        notes: what a search came to, in lines.
        run_id: of its parent run in MLflow; None where it has not arrived there.
    """

    folder: Path
    status: str
    reason: str
    varied: Sequence[str]
    jobs: Sequence[RunAnswer]
    best: str | None
    notes: Sequence[str]
    run_id: str | None


def of_sweep(folder: Path) -> SweepAnswer:
    """Return what the sweep in a folder came to."""
    own, jobs, varied = record.read(folder), summary.all_jobs(folder), sweep_plan.read(folder).varied
    found = best.of(jobs, varied)
    return SweepAnswer(
        folder=folder.resolve(),
        status=own.status,
        reason=own.reason,
        varied=varied,
        jobs=[of_job(job) for job in jobs],
        best=found.job.job if found else None,
        notes=summary.notes(folder),
        run_id=delivered.state(folder).run_id or None,
    )
