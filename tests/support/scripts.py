"""Exported scripts, run as they are: what they print is set against what the run measured."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import experiments
from experiments.export_script.exporting import export
from experiments.seeds import seed_noise
from experiments.training.device import settings_kept

Losses = list[tuple[float, float]]


def printed(text: str) -> Losses:
    """Training and validation loss of each epoch that a script tells."""
    rows = [line.split() for line in text.splitlines() if line.startswith("epoch ")]
    return [(float(row[3]), float(row[5])) for row in rows]


def measured(result: experiments.Result) -> Losses:
    return [(figures["train/loss"], figures["valid/loss"]) for figures in result.history]


def run_script(path: Path, *arguments: str) -> Losses:
    """Run a script in this process, whose settings are restored; its random streams start anywhere."""
    before, output = sys.argv, io.StringIO()
    sys.argv = [str(path), *arguments]
    try:
        with settings_kept(), contextlib.redirect_stdout(output):
            seed_noise(4321)
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = before
    return printed(output.getvalue())


def exported(what: Sequence[str], folder: Path) -> Path:
    """The script of a configuration or a run, with the rows it reads beside it."""
    found = export(what, rows=str(folder / "rows.npz"))
    found.write_rows(folder / "rows.npz")
    path = folder / "plain.py"
    path.write_text(found.text, encoding="utf-8")
    return path
