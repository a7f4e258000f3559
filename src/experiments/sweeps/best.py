"""The best of a sweep's jobs, as the sweep's parent run reports it: in its metrics, tags and description."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.config.language import Phrase
from experiments.runs.job_record import JobRecord
from experiments.runs.settings_diff import differing, settings
from experiments.runs.terminal import relative
from experiments.sweeps.rows import METRICS

METRIC = "best/valid_loss"
LONGEST = 5000  # characters of a tag's value


@dataclass(frozen=True)
class Best:
    """The job with the smallest validation loss, and its values of the settings that were swept over or differ."""

    job: JobRecord
    settings: Mapping[str, str]

    @property
    def metrics(self) -> dict[str, float]:
        """Return the parent run's metrics."""
        return {name: self.job.figures[name] for name in METRICS if name in self.job.figures}

    @property
    def tags(self) -> dict[str, str]:
        """Return the parent run's tags; parameters could not change when the sweep is resumed."""
        tags = {"best/job": self.job.job, "best/folder": str(self.job.folder)}
        return tags | {f"best/{key}": value[:LONGEST] for key, value in self.settings.items()}

    @property
    def text(self) -> Phrase:
        """Return the job, its loss and its settings in words."""
        given = "".join(f" {key}={value}" for key, value in self.settings.items())
        loss = f"{METRIC} {self.job.figures[METRIC]!r}{given and ':'}{given}"
        return Phrase("job {job}, {loss}; {folder}", job=self.job.job, loss=loss, folder=relative(self.job.folder))


def of(jobs: Sequence[JobRecord], varied: Sequence[str]) -> Best | None:
    """Return the best job, with the `varied` settings even where all jobs have the same; None without a finite loss."""
    finite = [job for job in jobs if math.isfinite(job.figures.get(METRIC, math.nan))]
    finite = [job for job in finite if job.finished] or finite  # a search has stopped the others
    if not finite:
        return None
    job = min(finite, key=lambda job: job.figures[METRIC])
    given = settings(job)
    keys = [*varied, *differing([settings(other) for other in jobs if other.started])]
    return Best(job, {key: given[key] for key in keys if key in given})
