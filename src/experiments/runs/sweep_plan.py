"""A sweep's plan and its parent run, which the first job starts and the sweep's summary ends.

The parent's journal is in the sweep's folder. It has a separate MLflow experiment, so that the UI lists the jobs as
plain rows with their curves instead of one collapsed row.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from experiments.config import secrets
from experiments.config.registration import CONTROL
from experiments.config.store_uri import masked, store_uri
from experiments.errors import ConfigError, Fault, command
from experiments.files import folder_fault, replacing
from experiments.tracking import journal, record
from experiments.tracking.metric_names import is_valid
from experiments.tracking.ownership import this_process
from experiments.tracking.record import Place

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from experiments.config.root import TrackingConfig

PLAN = "sweep.json"
BEGINNING = ".parent.lock"  # held while the plan or the parent run is created
LONGEST = 255  # bytes of a file's name
WAIT_SECONDS = 10  # who checks whether a sweep runs holds its lock for a moment


def require_free(sweep: Path, jobs: Sequence[str], *, again: bool = False) -> None:
    """Check that a sweep can have this folder, and each job a separate one in it, before anything is created.

    `jobs` are the names of their folders, `again` is whether the existing sweep resumes.

    Raises:
        ConfigError: it holds a sweep, cannot be written to, or a job would have no separate folder in it.
    """
    folders: dict[Path, int] = {}
    for number, name in enumerate(jobs):
        folder = _inside(sweep, name)
        if (first := folders.setdefault(folder, number)) != number:
            problem = f"jobs {first} and {number} would share the folder {name}; ${{hydra.job.num}} is one for each"
            raise ConfigError(Fault("hydra.sweep.subdir", problem))
    if not again:
        _require_unplanned(sweep)
    if blocked := folder_fault(sweep):
        raise ConfigError(Fault("hydra.sweep.dir", f"{blocked}; the sweep's folder would be {sweep}"))


@dataclass(frozen=True)
class SweepPlan:
    """A sweep's jobs and settings, kept in its folder before its first job; `resume` starts it again from this.

    Args:
        varied: the overridden keys that differ between the jobs.
        overrides: the command line's, of the configuration.
        options: the command line's, of Hydra itself.
        listed: if all jobs are known, each one's values of the varied keys, by the name of its folder.
        place: where the sweep was started.
    """

    varied: Sequence[str] = ()
    overrides: Sequence[str] = ()
    options: Sequence[str] = ()
    listed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    place: Place = field(default_factory=Place)


def keep(sweep: Path, plan: SweepPlan) -> None:
    """Write the plan into the sweep's folder.

    Raises:
        ConfigError: another command has a sweep there by now.
    """
    sweep.mkdir(parents=True, exist_ok=True)
    text = json.dumps(secrets.masked_deep(asdict(plan)), indent=2)
    with FileLock(sweep / BEGINNING):
        _require_unplanned(sweep)
        with replacing(sweep / PLAN) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read(sweep: Path) -> SweepPlan:
    """Return the plan of the sweep in a folder; an empty one if its sweeper keeps none."""
    try:
        found = json.loads((sweep / PLAN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SweepPlan()
    return SweepPlan(**found | {"place": Place(**found["place"])})


def begin(sweep: Path, tracking: TrackingConfig) -> Path:
    """Start the parent run's journal, once, and return the sweep's folder."""
    with FileLock(sweep / BEGINNING):
        if not (sweep / journal.FILE).exists():
            from experiments.runs import metadata  # imports torch, which readers of a plan do not need

            plan = read(sweep)
            keys, given = plan.varied, [word.lstrip("+").split("=", 1) for word in plan.overrides if "=" in word]
            tags = metadata.source_tags(["-m", *plan.overrides]) | metadata.git_tags()
            started = journal.Journal(sweep)
            started.start(
                name=f"sweep over {', '.join(keys)}" if keys else "sweep",
                experiment=tracking.sweep_experiment,
                store=None if tracking.name == "none" else masked(store_uri(tracking.uri)),
                tags=secrets.masked_deep(tags) | {"experiments.folder": str(sweep), "experiments.sweep": "true"},
                params={key: value for key, value in given if is_valid(key)},
                note="",
                inputs=[],
                parent=None,
            )
            started.close()
    return sweep


@contextlib.contextmanager
def held(sweep: Path) -> Iterator[None]:
    """Own the sweep while its jobs run; resume a parent run that another process started.

    Raises:
        ConfigError: another process owns it.
    """
    owned = _owned(sweep)
    try:
        if record.read(sweep).owner != this_process():
            owned.resume(changed={})
        yield
    finally:
        owned.close()


def _require_unplanned(sweep: Path) -> None:
    if (sweep / PLAN).exists():
        problem = f"{sweep} already holds a sweep; to resume it: {command('resume')} {sweep}"
        raise ConfigError(Fault("hydra.sweep.dir", problem))


def _inside(sweep: Path, name: str) -> Path:
    """Return the folder of a job with this name.

    Raises:
        ConfigError: it would be outside the sweep's, or cannot be a folder.
    """
    problem = None
    if CONTROL.search(name) or any(len(os.fsencode(part)) > LONGEST for part in Path(name).parts):
        problem = f"{name!r:.100} cannot be a folder: it has control characters, or a part longer than {LONGEST} bytes"
    elif (root := sweep.resolve()) not in (folder := (root / name).resolve()).parents:
        problem = f"{name} leads out of the sweep's folder, {sweep}; each job needs one inside it"
    if problem:
        raise ConfigError(Fault("hydra.sweep.subdir", problem))
    return folder


def options(config: DictConfig) -> list[str]:
    """Return the command line's options for Hydra itself."""
    folders = [source.path for source in config.hydra.runtime.config_sources if source.provider == "command-line"]
    again = ("hydra.sweep.dir=", "hydra.mode=")  # given again when it resumes
    said = [option for option in config.hydra.overrides.hydra if not option.startswith(again)]
    return [*(word for folder in folders for word in ("--config-dir", folder)), *said]


def _owned(sweep: Path) -> journal.Journal:
    try:
        return journal.Journal(sweep, reopen=True, wait_seconds=WAIT_SECONDS)
    except Timeout:
        problem = f"{record.read(sweep).owner} has this sweep in use"
        raise ConfigError(Fault("hydra.sweep.dir", problem)) from None
