"""A job of a sweep, or a run that is compared with others: its record and its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.tracking.record import FAILED, FINISHED, PAUSED, RunRecord

NOT_RUN = "not run"  # the status of a job that was planned only


@dataclass(frozen=True, kw_only=True)
class JobRecord(RunRecord):
    """A job's run; of a job that never started, a record without a start.

    Args:
        job: its name: its folder's within the sweep's.
        reused: the folder of the run that it reused; None if it trained.
        given: of a job that never started, its settings in the plan, if known.
    """

    job: str
    reused: Path | None = None
    given: Mapping[str, str] | None = None

    @classmethod
    def of(cls, run: RunRecord, job: str, **changes: object) -> JobRecord:
        """Return a run's record under a job's name; `changes` are fields that differ for the job."""
        return cls(**{**vars(run), "job": job, **changes})

    @classmethod
    def unstarted(cls, folder: Path, job: str, reason: str, **changes: object) -> JobRecord:
        """Return the record of a job without a run."""
        return cls.of(RunRecord(folder=folder, status=FAILED, reason=reason), job, **changes)

    @property
    def failed(self) -> bool:
        """Return whether it should have run and did not finish."""
        return self.status not in (FINISHED, PAUSED, NOT_RUN)
