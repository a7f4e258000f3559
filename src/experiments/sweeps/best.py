"""The best of a sweep's jobs, as the sweep's parent run reports it: in its metrics, tags and description."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.runs.job_record import JobRecord
from experiments.runs.settings_diff import differing, settings
from experiments.runs.terminal import relative

METRIC = "best/valid_loss"
LONGEST = 5000  # characters of a tag's value


@dataclass(frozen=True)
class Best:
    """The job with the smallest validation loss.

    Args:
        job: its number, the name of its folder.
        folder: its run's folder.
        loss: its best validation loss.
        settings: its values of the settings that were swept over or differ between the jobs.
    """

    job: str
    folder: Path
    loss: float
    settings: Mapping[str, str]

    @property
    def metrics(self) -> dict[str, float]:
        """Return the parent run's metrics."""
        return {METRIC: self.loss}

    @property
    def tags(self) -> dict[str, str]:
        """Return the parent run's tags; parameters could not change when the sweep is resumed."""
        tags = {"best/job": self.job, "best/folder": str(self.folder)}
        return tags | {f"best/{key}": value[:LONGEST] for key, value in self.settings.items()}

    def __str__(self) -> str:
        given = "".join(f" {key}={value}" for key, value in self.settings.items())
        return f"job {self.job}, {METRIC} {self.loss!r}{given and ':'}{given}; {relative(self.folder)}"


def of(jobs: Sequence[JobRecord], varied: Sequence[str] = ()) -> Best | None:
    """Return the best of a sweep's jobs; None where no job has a finite loss.

    Args:
        jobs: their records.
        varied: keys that were swept over or searched; reported even where all jobs have the same value.
    """
    losses = {job.job: job.figures.get(METRIC, math.nan) for job in jobs}
    finite = [job for job in jobs if math.isfinite(losses[job.job])]
    if not finite:
        return None
    job = min(finite, key=lambda job: losses[job.job])
    given = settings(job)
    keys = [*varied, *differing([settings(other) for other in jobs if other.started])]
    return Best(job.job, job.folder, losses[job.job], {key: given[key] for key in keys if key in given})
