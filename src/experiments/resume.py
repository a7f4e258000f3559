"""`python -m experiments.resume FOLDER [OVERRIDE ...]`: resume an interrupted run or sweep.

A run resumes from its newest checkpoint, in the same MLflow run, bit for bit as if it had never stopped. It may train
longer (epochs=10); settings that would change the result are refused. Of a sweep, finished jobs stay as they are,
half-done ones resume, and failed or unstarted ones run; sweep.preview=true shows which. The word latest names the run
or sweep that was started or resumed last.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from experiments import cli, live, ranks
from experiments.__main__ import compose_and_run
from experiments.config import latest
from experiments.errors import ConfigError, Fault, command
from experiments.runs import references, sweep_plan
from experiments.runs.place import work_in
from experiments.runs.sweep_plan import PLAN
from experiments.tracking import journal, record

# Settings that a resumed sweep may have, since they change none of its jobs.
OF_A_SWEEP = ("sweep.preview", "sweep.on_failure")


def main(arguments: list[str] | None = None) -> None:
    """Resume; the exit codes are those of a run."""
    parser = cli.parser("resume", __doc__, answers=True)
    parser.add_argument("folder", type=latest.meant, metavar="FOLDER", help="a run's or a sweep's, or latest")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as on the command line of a run")
    given = parser.parse_intermixed_args(arguments)
    cli.guarded(lambda: _resume(given.folder.resolve(), given.overrides), together=True, json=given.json)


def _resume(folder: Path, overrides: list[str]) -> None:
    if (folder / PLAN).is_file():
        if ranks.world() > 1:
            raise ConfigError(
                Fault(str(folder), "a sweep resumes without torchrun; resume its runs one by one with it")
            )
        _sweep(folder, overrides)
        return
    # Imported now: what follows takes torch, which a wrong folder should not wait for.
    if (taken := references.meant(folder)) != folder:
        problem = f"it took the finished run of another folder; to resume that one: {command('resume')}"
        raise ConfigError(Fault(str(folder), f"{problem} {taken}"))
    if not (folder / journal.FILE).is_file():
        raise ConfigError(Fault(str(folder), f"no run or sweep to resume: neither {journal.FILE} nor {PLAN} found"))
    start = record.start_of(folder)
    if start.is_sweep:
        problem = f"its sweeper is not one of this package and kept no {PLAN}; resume its jobs, each by its own folder"
        raise ConfigError(Fault(str(folder), problem))
    work_in(start.place)
    handler = logging.NullHandler() if ranks.follows() else live.LogHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger().addHandler(handler)
    from experiments import api

    api.resume(folder, overrides)


def _sweep(folder: Path, overrides: list[str]) -> None:
    """Start the same multirun again, in the same folder: each job checks what is left to do."""
    from experiments.config.overrides import quoted
    from experiments.runs.overrides import hidden, key, merge

    plan = sweep_plan.read(folder)
    allowed = {*OF_A_SWEEP, *hidden(plan.overrides)}
    if refused := [override for override in overrides if key(override) not in allowed]:
        told = " ".join(refused)
        raise ConfigError(
            Fault(told, "a sweep resumes with its own settings; other settings are for a single run's folder only")
        )
    work_in(plan.place)
    again = [f"hydra.sweep.dir={quoted(str(folder))}", "sweep.resume=true"]
    sys.argv = ["experiments", "--multirun", *plan.options, *merge(plan.overrides, overrides), *again]
    compose_and_run()


if __name__ == "__main__":
    main()
