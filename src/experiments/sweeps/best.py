"""Which of a sweep's jobs is best, as the sweep's parent run tells it: in its figures, its tags and its description."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.runs.job_record import JobRecord
from experiments.runs.terminal import relative
from experiments.sweeps.settings_diff import differing, settings

FIGURE = "best/valid_loss"
LONGEST = 5000  # characters of a tag's value


@dataclass(frozen=True)
class Best:
    """The job with the least validation loss.

    Args:
        job: its number, as its folder is called.
        folder: where it is.
        loss: its best validation loss.
        settings: those that were swept over, and in which the jobs differ, as it has them.
    """

    job: str
    folder: str
    loss: float
    settings: Mapping[str, str]

    @property
    def figures(self) -> dict[str, float]:
        """What the parent run shows as its metrics."""
        return {FIGURE: self.loss}

    @property
    def tags(self) -> dict[str, str]:
        """What it shows as its tags; no parameters, for these could not change where the sweep goes on."""
        found = {"best/job": self.job, "best/folder": self.folder}
        return found | {f"best/{key}": value[:LONGEST] for key, value in self.settings.items()}

    def told(self) -> str:
        """In a line, its settings as they would be typed, and where it is."""
        given = " ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"job {self.job}, {FIGURE} {self.loss!r}{f': {given}' if given else ''}; {relative(Path(self.folder))}"


def of(jobs: Sequence[JobRecord], varied: Sequence[str] = ()) -> Best | None:
    """The best of a sweep's jobs; None where none of them has a figure.

    Args:
        jobs: their records.
        varied: keys that were swept over or searched, and are told even where all jobs came to have the same.
    """
    found = [job for job in jobs if math.isfinite(job.figures.get(FIGURE, math.nan))]
    if not found:
        return None
    job = min(found, key=lambda job: float(job.figures[FIGURE]))
    keys = [*varied, *differing([settings(other) for other in jobs if other.started])]
    given = settings(job)
    chosen = {key: given[key] for key in keys if key in given}
    return Best(str(job.job), str(job.folder), job.figures[FIGURE], chosen)
