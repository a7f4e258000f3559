"""A sweep's parent run: made once by whichever job starts first, ended with the sweep's summary.

It lies in the sweep's folder like a run in its own, and in an MLflow experiment of its own, so that the UI lists the
jobs as plain rows with their curves instead of one collapsed row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from experiments.errors import ConfigError, Fault
from experiments.files import folder_fault
from experiments.tracking import journal

if TYPE_CHECKING:
    from experiments.config import RootConfig

PLAN = "sweep.json"


def require_free(sweep: Path, jobs: Sequence[str]) -> None:
    """See that a sweep can have this folder, and each job one of its own in it, before anything is made.

    Args:
        sweep: the sweep's folder.
        jobs: what the folder of each job is called.

    Raises:
        ConfigError: it holds a sweep already, cannot be written to, or two jobs would share a folder.
    """
    for number, name in enumerate(jobs):
        if (first := jobs.index(name)) != number:
            problem = f"jobs {first} and {number} would share the folder {name}; ${{hydra.job.num}} is one for each"
            raise ConfigError(Fault("hydra.sweep.subdir", problem))
    if (sweep / PLAN).exists():
        raise ConfigError(Fault("hydra.sweep.dir", f"{sweep} already holds a sweep; each needs a folder of its own"))
    if blocked := folder_fault(sweep):
        raise ConfigError(Fault("hydra.sweep.dir", f"{blocked}; the sweep's folder would be {sweep}"))


def plan(sweep: Path, varied: Sequence[str], jobs: int, overrides: Sequence[str]) -> None:
    """Keep what the sweep is made of, before its first job."""
    sweep.mkdir(parents=True, exist_ok=True)
    content = {"varied": list(varied), "jobs": jobs, "overrides": list(overrides)}
    (sweep / PLAN).write_text(json.dumps(content, indent=2), encoding="utf-8")


def varied(sweep: Path) -> list[str]:
    """The overridden keys that differ between the jobs; empty where a sweeper of others keeps no plan."""
    try:
        return [str(key) for key in json.loads((sweep / PLAN).read_text(encoding="utf-8"))["varied"]]
    except FileNotFoundError:
        return []


def ensure(sweep: Path, root: RootConfig) -> Path:
    """The sweep's folder, with the parent run's journal begun."""
    with FileLock(sweep / ".parent.lock"):
        if not (sweep / journal.FILE).exists():
            keys = varied(sweep)
            name = f"sweep over {', '.join(keys)}" if keys else "sweep"
            begun = journal.Journal(sweep)
            begun.start(
                name=name,
                experiment=root.tracking.sweep_experiment,
                tags={"experiments.folder": str(sweep), "experiments.sweep": "true"},
                params={},
                note="",
                inputs=[],
                parent=None,
            )
            begun.close()
    return sweep
