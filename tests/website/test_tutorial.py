"""A stage's page: its code against the stage before, and the picture of its losses."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest
from docs.site import curves, scripts, tutorial

from experiments.export_script.exporting import export

each_stage = pytest.mark.parametrize("stage", scripts.STAGES)
PAIRS = list(zip(scripts.STAGES, scripts.STAGES[1:], strict=False))
HUNK = re.compile(r"@@ -(\d+),?(\d*) \+\d+,?\d* @@")


def patched(lines: list[str], diff: str) -> list[str]:
    """Apply a unified diff, as `patch` does; each line that it names must be there."""
    left, found = list(lines), list[str]()
    for line in diff.splitlines()[2:]:
        if hunk := HUNK.match(line):
            start = int(hunk[1]) - 1 - (len(lines) - len(left))
            found, left = found + left[:start], left[start:]
        else:
            if line[:1] != "+":
                assert left.pop(0) == line[1:]
            if line[:1] != "-":
                found.append(line[1:])
    return found + left


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return dict(tutorial.pages())


@pytest.mark.parametrize(("before", "stage"), PAIRS)
def test_the_diff_turns_a_stages_script_into_the_next_ones(before: str, stage: str) -> None:
    texts = [export([f"stage={name}", *scripts.OVERRIDES]).text for name in (before, stage)]
    earlier, now = (text.split('"""\n\n', 1)[1].splitlines() for text in texts)
    diff = scripts.diff(before, stage)
    assert patched(earlier, diff) == now and diff.count("\n") > 4


@pytest.mark.parametrize("folder", ["", "uz/"])
def test_each_page_has_its_code_and_links_to_exercise_and_notebook(folder: str, pages: dict[str, str]) -> None:
    for stage in scripts.STAGES:
        page, before = pages[f"{folder}tutorial/{stage}.md"], scripts.stage_before(stage)
        shown = f"```diff\n{scripts.diff(before, stage)}\n```" if before else f"```python\n{scripts.script(stage)}```"
        assert shown in page
        assert f"notebooks/{stage}.ipynb)" in page and "exercises.md)" in page


@each_stage
def test_the_alternative_text_has_the_last_losses(stage: str, pages: dict[str, str]) -> None:
    losses = json.loads(curves.NUMBERS.read_text(encoding="utf-8"))[stage]
    for folder in ("", "uz/"):
        (alt,) = re.findall(rf"!\[(.*)\]\([./]*tutorial/curves/{stage}\.svg\)", pages[f"{folder}tutorial/{stage}.md"])
        assert all(f"{name} {values[-1]:.4f}" in alt for name, values in losses.items())


@each_stage
def test_the_picture_is_drawn_from_the_kept_losses(stage: str) -> None:
    kept = (curves.FOLDER / f"{stage}.svg").read_text(encoding="utf-8")
    assert kept == curves.drawn(curves.losses(stage)) and len(kept) < 5_000
    lines = [path.get("d", "") for path in ET.fromstring(kept).findall("{*}path") if path.get("fill") == "none"]
    for line, losses in zip(lines, curves.losses(stage).values(), strict=True):
        heights = [float(number) for number in line[1:].split()[1::2]]
        assert len(heights) == curves.EPOCHS
        order = sorted(range(len(losses)), key=losses.__getitem__)
        assert [heights[epoch] for epoch in order] == sorted(heights, reverse=True)  # the lowest loss is farthest down
