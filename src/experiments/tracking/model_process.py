"""The process that logs a finished run's trained model to MLflow: the uploader itself never imports torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from experiments.cli import FULL_ERROR
from experiments.tracking import record

KEY, NONE = "tracking.model", "none"


def chosen(folder: Path) -> str:
    """Return which model of a run to log: none, best or last, as at its start or last resumption."""
    changed = [event.changed for event, _ in record.events(folder) if isinstance(event, record.Resumed)]
    found = [settings[KEY] for settings in (record.start_of(folder).params, *changed) if KEY in settings]
    return found[-1] if found else NONE


def log(folder: Path, uri: str) -> str:
    """Log the chosen model of a run, if it finished. Return why it cannot be logged; empty where all is well.

    Raises:
        OSError: it was not logged this time.
    """
    which = chosen(folder)
    if which == NONE or not record.read(folder).finished:
        return ""
    done = subprocess.run(  # noqa: S603  # no shell; the choice is one of three words
        [sys.executable, "-m", "experiments.runs.model_export", str(folder), which],
        # Not as an argument, which everybody on the machine can read: an address may hold a password.
        env=os.environ | {"MLFLOW_TRACKING_URI": uri, FULL_ERROR: "0"},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode in (0, 2):
        return done.stderr.strip().splitlines()[-1] if done.returncode else ""
    raise OSError(f"the model was not logged: {done.stderr}")
