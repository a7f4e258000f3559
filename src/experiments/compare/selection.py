"""The runs to compare: by folder, MLflow id, sweep or MLflow experiment; read from the journals, never from MLflow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.config import latest
from experiments.errors import ConfigError, Fault
from experiments.runs import references
from experiments.runs.find import find
from experiments.runs.job_record import JobRecord
from experiments.runs.sweep_plan import PLAN
from experiments.runs.terminal import relative
from experiments.sweeps import summary
from experiments.tracking import journal, record


def choose(names: Sequence[str], output_root: Path) -> tuple[list[JobRecord], list[Path]]:
    """Return the named runs, each once, in the order of the names, and which of the names are sweeps.

    Without names these are the runs of the latest sweep.

    Raises:
        ConfigError: a name means nothing, or a sweep has no job.
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
        raise ConfigError(Fault(relative(sweeps[0]), "no job of this sweep has started"))
    count = Counter(job.job for job in jobs.values())
    for folder, job in jobs.items():
        if count[job.job] > 1:  # jobs of several sweeps
            jobs[folder] = replace(job, job=f"{folder.parent.name}/{folder.name}")
    return list(jobs.values()), sweeps


def _places(name: str, output_root: Path) -> list[Path]:
    """Return the folders of the runs and sweeps that a name means."""
    path = latest.meant(name, output_root)
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
    raise ConfigError(Fault(name, f"no run, sweep or MLflow experiment; {_available(output_root)}"))


def _runs_below(folder: Path) -> list[Path]:
    """Return the runs at any depth, oldest first; of a sweep its jobs, not itself."""
    found = [path.parent.resolve() for path in folder.rglob(journal.FILE) if not _is_sweep(path.parent)]
    return sorted(found, key=lambda run: (record.start_of(run).time, str(run)))


def _is_sweep(folder: Path) -> bool:
    return (folder / PLAN).is_file() or record.start_of(folder).is_sweep


def _latest_sweep(output_root: Path) -> Path:
    sweeps = _sweeps(output_root)
    if not sweeps:
        problem = f"no sweep below it; name the runs to compare: {_available(output_root)}"
        raise ConfigError(Fault(str(output_root), problem))
    return sweeps[-1].resolve()


def _sweeps(output_root: Path) -> list[Path]:
    """Return the sweeps in the order in which they were started or resumed last."""
    changed = {path.parent: path.stat().st_mtime for path in output_root.rglob(PLAN)}
    for path in output_root.rglob(journal.FILE):  # another sweeper keeps no plan
        if _is_sweep(path.parent):
            changed[path.parent] = path.stat().st_mtime
    return sorted(changed, key=lambda sweep: changed[sweep])


def _available(output_root: Path) -> str:
    runs = _runs_below(output_root)
    if not runs:
        return f"no runs below {output_root} yet"
    experiments = sorted({str(record.start_of(run).experiment) for run in runs} - {"None"})
    known = [f"MLflow experiments: {', '.join(experiments)}", f"the latest of {len(runs)} runs: {relative(runs[-1])}"]
    if sweeps := _sweeps(output_root):
        known.insert(0, f"the latest of {len(sweeps)} sweeps: {relative(sweeps[-1])}")
    return f"available: {'; '.join(known)}; or an MLflow run id"
