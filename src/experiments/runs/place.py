"""Where a run was started: a later process works there, since its data and MLflow store have the same names there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from experiments.config import discovery
from experiments.tracking.record import Place


def current() -> Place:
    """Return where this process works."""
    return Place(str(Path.cwd()), os.environ.get(discovery.SETTING, ""))


def work_in(place: Place) -> None:
    """Work in the folder that a run was started in, if it exists; print the run's components if none are set."""
    note_components(place)
    if place.folder and Path(place.folder).is_dir():
        os.chdir(place.folder)


def note_components(place: Place) -> None:
    """Print the components that a run was started with, if none are set."""
    if place.components and not os.environ.get(discovery.SETTING):
        note = f"note: it was started with {discovery.SETTING}={place.components}, which is not set now"
        print(note, file=sys.stderr)
