"""The small file in the folder of a job that reused a run; it names that run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from experiments.config import secrets
from experiments.errors import ConfigError, Fault
from experiments.files import replacing
from experiments.runs.job_record import JobRecord
from experiments.runs.terminal import relative
from experiments.tracking import record

FILE = "reused.json"


@dataclass(frozen=True)
class Reference:
    """The run that a job reused, and the job's settings.

    `choices` are the chosen options by group, `params` the settings by dotted key.
    """

    folder: str
    run_key: str
    choices: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Return whether the run exists and has the same key."""
        return record.run_key(Path(self.folder)) == self.run_key


def refer(folder: Path, reference: Reference) -> None:
    """Write into a job's folder which run it reused."""
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(secrets.masked_deep(asdict(reference)), indent=2), encoding="utf-8")


def referred(folder: Path) -> Path | None:
    """Return the folder of the run that a job reused; None if it reused none, or that run has gone or changed."""
    reference = _reference(folder)
    return Path(reference.folder) if reference is not None and reference.holds else None


def lost(folder: Path) -> str | None:
    """Return why the run that a job reused cannot stand for it any more; None for any other job."""
    reference = _reference(folder)
    if reference is None or reference.holds:
        return None
    return f"the run that it took is gone or was trained longer since: {relative(Path(reference.folder))}"


def meant(folder: Path) -> Path:
    """Return the folder of a job's run: of a job that reused a run, that run's folder.

    Raises:
        ConfigError: that run has gone or changed since.
    """
    if (problem := lost(folder)) is not None:
        problem = f"{problem}; its own command trains it in this folder, or resume of its sweep"
        raise ConfigError(Fault(relative(folder), problem))
    return referred(folder) or folder


def job_record(folder: Path, job: str) -> JobRecord:
    """Return the record of a job that reused a run: that run's metrics under the job's settings."""
    reference = _reference(folder)
    assert reference is not None
    run = record.read(Path(reference.folder))
    # The chosen options are the job's, all other tags the run's.
    tags = {key: value for key, value in run.start.tags.items() if "." in key}
    start = replace(run.start, tags={**tags, **reference.choices}, params=reference.params)
    return JobRecord.of(run, job, start=start, reused=run.folder)


def forget(folder: Path) -> None:
    """Remove the reference: the job trains after all."""
    (folder / FILE).unlink(missing_ok=True)


def _reference(folder: Path) -> Reference | None:
    try:
        return Reference(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
