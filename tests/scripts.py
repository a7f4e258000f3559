"""Exported scripts, run as they are: what they print is set against what the run measured."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import experiments
from experiments.export_script.exporting import export

Losses = list[tuple[float, float]]


def printed(text: str) -> Losses:
    """Training and validation loss of each epoch that a script tells."""
    rows = [line.split() for line in text.splitlines() if line.startswith("epoch ")]
    return [(float(row[3]), float(row[5])) for row in rows]


def measured(result: experiments.Result) -> Losses:
    return [(figures["train/loss"], figures["valid/loss"]) for figures in result.history]


def run_script(path: Path, *arguments: str) -> Losses:
    """Run a script in this process; it sets the random streams, which are put back."""
    state, before, output = torch.get_rng_state(), sys.argv, io.StringIO()
    sys.argv = [str(path), *arguments]
    try:
        with contextlib.redirect_stdout(output):
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = before
        torch.set_rng_state(state)
    return printed(output.getvalue())


def exported(what: Sequence[str], folder: Path) -> Path:
    """The script of a configuration or a run, with the rows it reads beside it."""
    found = export(what, rows=str(folder / "rows.npz"))
    found.write_rows(folder / "rows.npz")
    path = folder / "plain.py"
    path.write_text(found.text, encoding="utf-8")
    return path
