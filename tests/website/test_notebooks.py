"""The notebooks in the repository: made from the stages, and their losses those of the stages' runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from docs.site import notebooks, scripts

import experiments

LOSSES = re.compile(r"epoch (\d+)  train/loss (\S+)  valid/loss (\S+)")
NEAR = 1e-3  # another machine adds in another order
each_stage = pytest.mark.parametrize("stage", scripts.STAGES)


def kept(stage: str) -> Any:
    text = (notebooks.FOLDER / f"{stage}.ipynb").read_text(encoding="utf-8")
    return nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]  # not annotated


def losses(notebook: Any) -> list[list[float]]:
    """Each printed epoch: its number, and both losses."""
    return [[float(number) for number in LOSSES.fullmatch(line).groups()] for line in notebooks.printed(notebook)]  # type: ignore[union-attr]  # None fails the test


def test_each_stage_has_a_notebook() -> None:
    assert sorted(path.stem for path in notebooks.FOLDER.iterdir()) == scripts.STAGES


@pytest.mark.long
@each_stage
def test_its_cells_are_those_that_the_stage_makes(stage: str) -> None:
    parts = [(cell.id, cell.cell_type, cell.source) for cell in kept(stage).cells]
    assert parts == [(cell.id, cell.cell_type, cell.source) for cell in notebooks.notebook(stage).cells]
    nbformat.validate(kept(stage))
    assert (notebooks.FOLDER / f"{stage}.ipynb").stat().st_size < 20_000


@pytest.mark.slow
@each_stage
def test_executed_again_it_prints_the_losses_of_the_stages_run(stage: str, workplace: Path) -> None:
    again = losses(notebooks.executed(kept(stage), workplace))
    history = experiments.run(
        [f"stage={stage}", *scripts.OVERRIDES, notebooks.LONGER, "tracking=none", "figures=false"]
    )
    run = [[epoch, each["train/loss"], each["valid/loss"]] for epoch, each in enumerate(history.history)]
    assert again[-len(run) :] == run  # before them, stage 13 prints the epochs of stage 12
    for line, line_kept in zip(again, losses(kept(stage)), strict=True):
        assert line == pytest.approx(line_kept, rel=NEAR)
