"""Which runs are meant: by folder, MLflow id, sweep or MLflow experiment; read from the journals, never from MLflow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.errors import ConfigError, Fault
from experiments.runs import references
from experiments.runs.find import find
from experiments.runs.job_record import JobRecord
from experiments.runs.sweep_plan import PLAN
from experiments.runs.terminal import relative
from experiments.sweeps import summary
from experiments.tracking import journal, record


@dataclass(frozen=True)
class Chosen:
    """What is compared.

    Args:
        jobs: the journals' summaries, each with `job`, what it is called by its folder.
        sweeps: the folders of the sweeps that were asked for.
    """

    jobs: list[JobRecord]
    sweeps: list[Path]


def choose(names: Sequence[str], output_root: Path) -> Chosen:
    """The runs that are named, each once, in the order they are named; without names those of the latest sweep.

    Raises:
        ConfigError: there is nothing that is called so.
    """
    jobs: dict[Path, JobRecord] = {}
    sweeps = []
    for folder in [place for name in names for place in _places(name, output_root)] or [_latest_sweep(output_root)]:
        if _is_sweep(folder):
            sweeps.append(folder)
            found = summary.collect(folder)
        else:
            found = [JobRecord.of(record.read(folder), folder.name)]
        for job in found:
            jobs.setdefault(job.folder.resolve(), job)
    if not jobs:
        raise ConfigError(Fault(relative(sweeps[0]), "not one job of this sweep has begun"))
    often = Counter(job.job for job in jobs.values())
    for folder, job in jobs.items():
        if often[job.job] > 1:  # jobs of several sweeps
            jobs[folder] = replace(job, job=f"{folder.parent.name}/{folder.name}")
    return Chosen(list(jobs.values()), sweeps)


def _places(name: str, output_root: Path) -> list[Path]:
    """The folders of the runs and sweeps that one name means."""
    path = Path(name).expanduser()
    if path.is_dir():
        path = references.meant(path)
        if _is_sweep(path) or (path / journal.FILE).is_file():
            return [path.resolve()]
        if below := _runs_below(path):
            return below
    if re.fullmatch(r"[0-9a-f]{32}", name):
        return [find(name, output_root)]
    if found := [folder for folder in _runs_below(output_root) if record.start_of(folder).experiment == name]:
        return found
    raise ConfigError(Fault(name, f"nothing is called so; {_there_is(output_root)}"))


def _runs_below(folder: Path) -> list[Path]:
    """The runs in any depth, oldest first; of a sweep its jobs, not itself."""
    found = [path.parent.resolve() for path in folder.rglob(journal.FILE) if not _is_sweep(path.parent)]
    return sorted(found, key=lambda run: (record.start_of(run).time, str(run)))


def _is_sweep(folder: Path) -> bool:
    return (folder / PLAN).is_file() or record.start_of(folder).is_sweep


def _latest_sweep(output_root: Path) -> Path:
    """The sweep that was begun, or gone on with, last."""
    found = sorted(_sweeps(output_root), key=lambda path: path.stat().st_mtime)
    if not found:
        problem = f"there is no sweep below it; name what is to be compared: {_there_is(output_root)}"
        raise ConfigError(Fault(str(output_root), problem))
    return found[-1].parent.resolve()


def _sweeps(output_root: Path) -> Iterator[Path]:
    """A file of each sweep that changes when it goes on; a sweeper of others keeps no plan."""
    planned = {path.parent: path for path in output_root.rglob(PLAN)}
    yield from (
        planned | {path.parent: path for path in output_root.rglob(journal.FILE) if _is_sweep(path.parent)}
    ).values()


def _there_is(output_root: Path) -> str:
    """What could be named instead, in a few words."""
    runs = _runs_below(output_root)
    if not runs:
        return f"below {output_root} there are no runs yet"
    experiments = sorted({str(record.start_of(run).experiment) for run in runs} - {"None"})
    told = [f"MLflow experiments: {', '.join(experiments)}", f"the latest of {len(runs)} runs: {relative(runs[-1])}"]
    if sweeps := sorted(_sweeps(output_root), key=lambda path: path.stat().st_mtime):
        told.insert(0, f"the latest of {len(sweeps)} sweeps: {relative(sweeps[-1].parent)}")
    return f"available: {'; '.join(told)}; or an MLflow run id"
