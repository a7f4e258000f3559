"""The plain scripts of the tutorial's stages, and what each changes against the stage before."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from experiments.export_script.exporting import export

STAGES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "stage").glob("*.yaml"))
OVERRIDES = ("dataset=mnist_5k", "device.threads=1")


def stage_before(stage: str) -> str | None:
    """Return the name of the stage before; None for the first."""
    return STAGES[STAGES.index(stage) - 1] if stage != STAGES[0] else None


@cache
def script(stage: str, *more: str) -> str:
    """Return the exported script of a stage from its imports on; the heading names the stage, so it always differs.

    Args:
        stage: its name.
        more: overrides beside those that all scripts here have.
    """
    text = export([f"stage={stage}", *OVERRIDES, *more]).text
    return text[text.index('"""', 3) + 3 :].lstrip()


def diff(earlier: str, stage: str) -> str:
    """Return what turns the script of one stage into that of another, as a unified diff."""
    before, now = (script(name).splitlines() for name in (earlier, stage))
    return "\n".join(difflib.unified_diff(before, now, f"{earlier}.py", f"{stage}.py", lineterm="", n=2))
