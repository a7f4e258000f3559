"""README.uz.md is README.md in Uzbek: section by section, with the same code, plots and tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.places import ROOT

ENGLISH, UZBEK = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.uz.md"))
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
STAGES = sorted((ROOT / "conf" / "stage").glob("*.yaml"))


def sections(text: str) -> list[str]:
    """Each section, with its heading; headings in code are none."""
    return re.split(r"^(?=#+ )", CODE.sub(lambda block: block[0].replace("\n#", "\n "), text), flags=re.MULTILINE)


def headings(text: str) -> list[str]:
    return re.findall(r"^#+(?= )", CODE.sub("", text), re.MULTILINE)


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_the_headings_have_the_same_levels() -> None:
    assert headings(UZBEK) == headings(ENGLISH)


def test_the_code_is_the_same_to_the_byte() -> None:
    assert CODE.findall(UZBEK) == CODE.findall(ENGLISH)


def test_each_section_has_the_same_code_images_and_tables() -> None:
    for english, uzbek in zip(sections(ENGLISH), sections(UZBEK), strict=True):
        for part in (r"^```", r"!\[[^]]*\]\(([^)]*)\)", r"^\|"):
            found = [re.findall(part, text, re.MULTILINE) for text in (english, uzbek)]
            assert found[0] == found[1], english.splitlines()[:1]


def test_each_section_names_the_same_options_and_commands() -> None:
    for english, uzbek in zip(sections(ENGLISH), sections(UZBEK), strict=True):
        found = [set(re.findall(r"`([^`\n]+)`", CODE.sub("", text))) for text in (english, uzbek)]
        assert found[0] == found[1], english.splitlines()[:1]


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
@pytest.mark.parametrize(("language", "text"), [("en", ENGLISH), ("uz", UZBEK)])
def test_a_stages_gain_is_that_of_its_file(language: str, text: str, path: Path) -> None:
    (row,) = [row for row in rows(text) if row[0] == f"`{path.stem}`"]
    assert row[2] == yaml.safe_load(path.read_text(encoding="utf-8"))["tutorial"]["gain"][language]


def test_numbers_of_the_stages_are_the_same() -> None:
    numbers = [[row[3:] for row in rows(text) if row[0].startswith(("`0", "`1"))] for text in (ENGLISH, UZBEK)]
    assert len(numbers[0]) == len(STAGES) and numbers[0] == numbers[1]
