"""Find a run by its folder, its MLflow run id, the word `latest`, or the result of `experiments.run`."""

from __future__ import annotations

import re
from pathlib import Path

from experiments.config import latest
from experiments.errors import ConfigError, Fault
from experiments.files import expanded
from experiments.runs import references
from experiments.runs.terminal import relative
from experiments.tracking import delivered, journal, record
from experiments.tracking.record import RunRecord
from experiments.training.result import Result


def run_in(folder: Path) -> RunRecord:
    """Return the record of the run in a folder.

    Raises:
        ConfigError: there is none.
    """
    if not (folder / journal.FILE).is_file():
        raise ConfigError(Fault(str(folder), f"no run to resume: {journal.FILE} not found"))
    run = record.read(folder)
    if not run.started:
        raise ConfigError(Fault(str(folder), "its run ended before anything was written; start it again"))
    return run


def find(name: str | Path, output_root: str | Path = "outputs") -> Path:
    """Return the folder of the run that a path, an MLflow run id or `latest` names.

    Raises:
        ConfigError: there is no such run, or it is a sweep.
    """
    folder = find_run(Path(output_root), str(latest.meant(name, output_root)), key=str(name))
    if folder is None or not (folder / journal.FILE).is_file():
        newest = max(Path(output_root).rglob(journal.FILE), key=lambda path: path.stat().st_mtime, default=None)
        problem = "no run; one is named by its folder, its MLflow id (32 hexadecimal digits) or the word latest"
        problem += f"; the latest is {relative(newest.parent)}" if newest else f"; there is none below {output_root}"
        raise ConfigError(Fault(str(name), problem))
    if record.start_of(folder).is_sweep:
        where = relative(folder.resolve())
        raise ConfigError(Fault(str(name), f"{where} is a sweep; name one of its runs, for example {where}/0"))
    return folder.resolve()


def folder_of(run: str | Path | Result, output_root: str | Path = "outputs") -> Path:
    """Return the folder of a run, given its folder, its MLflow id, `latest`, or the result of `experiments.run`.

    Raises:
        ConfigError: there is no such run.
    """
    if isinstance(run, Result):
        if run.folder is None:
            raise ConfigError(Fault("run", "this result is of no run that is kept in a folder"))
        run = run.folder
    return find(run, output_root)


def find_run(output_root: Path, name: str, *, key: str = "init_from") -> Path | None:
    """Return the folder that a path or an MLflow run id names; None if the name is neither.

    Raises:
        ConfigError: no run has this id.
    """
    path = expanded(name)
    if path.is_dir():
        return references.meant(path)
    if re.fullmatch(r"[0-9a-f]{32}", name):
        for found in output_root.rglob(delivered.FILE):
            if delivered.state(found.parent).run_id == name:
                return found.parent
        raise ConfigError(Fault(key, f"no run below {output_root} has the MLflow id {name}"))
    return None
