"""A new run with the settings of another one: `python -m experiments --again RUN key=value ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.runs import place
from experiments.runs.find import find, run_in
from experiments.runs.overrides import key, replaced

FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")  # of that run


def overrides(name: str, given: Sequence[str], *, sweep: bool) -> list[str]:
    """Return a run's overrides with those given in their place; of a sweep's job those of the job alone.

    The new run works in the working folder, with the components that are set now: a note says where these differ.

    Raises:
        ConfigError: there is no such run, or a masked value is not given again.
    """
    run = run_in(find(name))
    place.note_components(run.start.place)
    if Path(run.start.place.folder) != Path.cwd():
        print(f"note: it was started in {run.start.place.folder}; relative paths start here now", file=sys.stderr)
    kept = [override for override in run.overrides if key(override) not in FOLDERS]
    alone = [] if sweep or run.start.parent is None else ["hydra.mode=RUN"]
    return replaced(kept, [*alone, *given])
