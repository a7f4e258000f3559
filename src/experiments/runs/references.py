"""A job that reused a run: the small file in its folder that names the run, and whoever reads the folder."""

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
    """Which run a job reused, and with what settings the job asked for it.

    Args:
        folder: the run's.
        run_key: what the run was then.
        choices: the chosen option of every group.
        params: the settings by dotted key.
    """

    folder: str
    run_key: str
    choices: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether the run is still there, and what it was."""
        return record.run_key(Path(self.folder)) == self.run_key


def refer(folder: Path, reference: Reference) -> None:
    """Keep in a job's folder that it reused another's run."""
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(secrets.masked_deep(asdict(reference)), indent=2), encoding="utf-8")


def referred(folder: Path) -> Path | None:
    """The folder of the run that the job in a folder reused; None where it reused none, or that is gone or another."""
    reference = _reference(folder)
    return Path(reference.folder) if reference is not None and reference.holds else None


def lost(folder: Path) -> str | None:
    """Why the run that a job reused is no longer the one that it was; None of any other job."""
    reference = _reference(folder)
    if reference is None or reference.holds:
        return None
    return f"the run that it took is gone or was trained longer since: {relative(Path(reference.folder))}"


def meant(folder: Path) -> Path:
    """The folder of the run that a folder stands for: itself, but of a job that reused another's.

    Raises:
        ConfigError: that one is no longer what the job reused.
    """
    if (problem := lost(folder)) is not None:
        problem = f"{problem}; its own command trains it in this folder, or resume of its sweep"
        raise ConfigError(Fault(relative(folder), problem))
    return referred(folder) or folder


def job_record(folder: Path, job: str) -> JobRecord:
    """A job that reused a run: that run's figures under this job's settings; `folder` and `reused` are that run's."""
    reference = _reference(folder)
    assert reference is not None
    run = record.read(Path(reference.folder))
    # Of the other's tags only what is not a choice of options: those are this job's own.
    tags = {key: value for key, value in run.start.tags.items() if "." in key}
    start = replace(run.start, tags={**tags, **reference.choices}, params=reference.params)
    return JobRecord.of(run, job, start=start, reused=run.folder)


def forget(folder: Path) -> None:
    """The job trains after all: the run that it reused is another now."""
    (folder / FILE).unlink(missing_ok=True)


def _reference(folder: Path) -> Reference | None:
    try:
        return Reference(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
