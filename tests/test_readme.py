"""README and tour in Uzbek are those in English: section by section, with the same code, plots and tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support.places import ROOT

NAMES = (("README.md", "README.uz.md"), ("docs/tour.md", "docs/uz/tour.md"))
PAGES = [[(ROOT / name).read_text(encoding="utf-8") for name in pair] for pair in NAMES]
ENGLISH, UZBEK = PAGES[1]
each_pair = pytest.mark.parametrize(("english", "uzbek"), PAGES, ids=["README", "tour"])
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
STAGES = sorted((ROOT / "conf" / "stage").glob("*.yaml"))


def sections(text: str) -> list[str]:
    """Each section, with its heading; headings in code are none."""
    return re.split(r"^(?=#+ )", CODE.sub(lambda block: block[0].replace("\n#", "\n "), text), flags=re.MULTILINE)


def headings(text: str) -> list[str]:
    return re.findall(r"^#+(?= )", CODE.sub("", text), re.MULTILINE)


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


@each_pair
def test_the_headings_have_the_same_levels(english: str, uzbek: str) -> None:
    assert headings(uzbek) == headings(english)


@each_pair
def test_the_code_is_the_same_to_the_byte(english: str, uzbek: str) -> None:
    assert CODE.findall(uzbek) == CODE.findall(english)


@each_pair
def test_each_section_has_the_same_code_images_and_tables(english: str, uzbek: str) -> None:
    for one, other in zip(sections(english), sections(uzbek), strict=True):
        for part in (r"^```", r"!\[[^]]*\]\((?:\.\./)?([^)]*)\)", r"^\|"):
            found = [re.findall(part, text, re.MULTILINE) for text in (one, other)]
            assert found[0] == found[1], one.splitlines()[:1]


@each_pair
def test_each_section_names_the_same_options_and_commands(english: str, uzbek: str) -> None:
    for one, other in zip(sections(english), sections(uzbek), strict=True):
        found = [set(re.findall(r"`([^`\n]+)`", CODE.sub("", text))) for text in (one, other)]
        assert found[0] == found[1], one.splitlines()[:1]


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
@pytest.mark.parametrize(("language", "text"), [("en", ENGLISH), ("uz", UZBEK)])
def test_a_stages_gain_is_that_of_its_file(language: str, text: str, path: Path) -> None:
    (row,) = [row for row in rows(text) if row[0] == f"`{path.stem}`"]
    assert row[2] == yaml.safe_load(path.read_text(encoding="utf-8"))["tutorial"]["gain"][language]


def test_numbers_of_the_stages_are_the_same() -> None:
    numbers = [[row[3:] for row in rows(text) if row[0].startswith(("`0", "`1"))] for text in (ENGLISH, UZBEK)]
    assert len(numbers[0]) == len(STAGES) and numbers[0] == numbers[1]
