"""A sweep's parent run: made once by whichever job starts first, ended with the sweep's summary.

It lies in the sweep's folder like a run in its own, and in an MLflow experiment of its own, so that the UI lists the
jobs as plain rows with their curves instead of one collapsed row.
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
from experiments.errors import ConfigError, Fault
from experiments.files import folder_fault, replacing
from experiments.tracking import journal, record
from experiments.tracking.ownership import this_process
from experiments.tracking.record import Place

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from experiments.config.root import TrackingConfig

PLAN = "sweep.json"
BEGINNING = ".parent.lock"  # held while what a sweep has once is made
LONGEST = 255  # bytes of a file's name
WAIT_SECONDS = 10  # who looks whether a sweep lives has its lock for a moment


def require_free(sweep: Path, jobs: Sequence[str], *, again: bool = False) -> None:
    """See that a sweep can have this folder, and each job one of its own in it, before anything is made.

    Args:
        sweep: the sweep's folder.
        jobs: what the folder of each job is called.
        again: the sweep that is there goes on.

    Raises:
        ConfigError: it holds a sweep already, cannot be written to, or a job would have no folder of its own in it.
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
    """What a sweep is made of, kept in its folder before its first job; what `resume` needs to start it again.

    Args:
        varied: the overridden keys that differ between the jobs.
        overrides: the command line's, of our configuration.
        options: the command line's, of Hydra itself.
        listed: where all jobs are known, what each one is given of the varied keys, by the name of its folder.
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
        ConfigError: another command has taken the folder meanwhile.
    """
    sweep.mkdir(parents=True, exist_ok=True)
    text = json.dumps(secrets.masked_deep(asdict(plan)), indent=2)
    with FileLock(sweep / BEGINNING):
        _require_unplanned(sweep)
        with replacing(sweep / PLAN) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read(sweep: Path) -> SweepPlan:
    """The plan of the sweep in a folder; an empty one where a sweeper of others keeps none."""
    try:
        found = json.loads((sweep / PLAN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SweepPlan()
    return SweepPlan(**found | {"place": Place(**found["place"])})


def begin(sweep: Path, tracking: TrackingConfig) -> Path:
    """The sweep's folder, with the parent run's journal begun; once, by whoever comes first."""
    with FileLock(sweep / BEGINNING):
        if not (sweep / journal.FILE).exists():
            keys = read(sweep).varied
            started = journal.Journal(sweep)
            started.start(
                name=f"sweep over {', '.join(keys)}" if keys else "sweep",
                experiment=tracking.sweep_experiment,
                store=None if tracking.name == "none" else masked(store_uri(tracking.uri)),
                tags={"experiments.folder": str(sweep), "experiments.sweep": "true"},
                params={},
                note="",
                inputs=[],
                parent=None,
            )
            started.close()
    return sweep


@contextlib.contextmanager
def held(sweep: Path) -> Iterator[None]:
    """Own the sweep while its jobs run; a parent run that another process began goes on.

    Raises:
        ConfigError: another process is at it.
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
        problem = f"{sweep} already holds a sweep; to resume it: python -m experiments.resume {sweep}"
        raise ConfigError(Fault("hydra.sweep.dir", problem))


def _inside(sweep: Path, name: str) -> Path:
    """The folder of a job called so, if it lies in the sweep's.

    Raises:
        ConfigError: it does not, or can be no folder.
    """
    problem = None
    if CONTROL.search(name) or any(len(os.fsencode(part)) > LONGEST for part in Path(name).parts):
        problem = f"{name!r:.100} can be no folder: it has control characters, or a part longer than {LONGEST} bytes"
    elif (root := sweep.resolve()) not in (folder := (root / name).resolve()).parents:
        problem = f"{name} leads out of the sweep's folder, {sweep}; each job has one of its own in there"
    if problem:
        raise ConfigError(Fault("hydra.sweep.subdir", problem))
    return folder


def options(config: DictConfig) -> list[str]:
    """What the command line said to Hydra itself."""
    folders = [source.path for source in config.hydra.runtime.config_sources if source.provider == "command-line"]
    again = ("hydra.sweep.dir=", "hydra.mode=")  # said anew when it goes on
    said = [option for option in config.hydra.overrides.hydra if not option.startswith(again)]
    return [*(word for folder in folders for word in ("--config-dir", folder)), *said]


def _owned(sweep: Path) -> journal.Journal:
    try:
        return journal.Journal(sweep, reopen=True, wait_seconds=WAIT_SECONDS)
    except Timeout:
        problem = f"{record.read(sweep).owner} has this sweep in use"
        raise ConfigError(Fault("hydra.sweep.dir", problem)) from None
