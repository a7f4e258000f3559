"""The gallery's pictures: small, each shown with what it shows in words."""

from __future__ import annotations

import re

from tests.support.places import ROOT

SITE = ROOT / "docs" / "site"
PAGE = (SITE / "gallery.md").read_text(encoding="utf-8")
SHOWN = {SITE / name: alt for alt, name in re.findall(r"!\[([^]]*)\]\(([^)]*)\)", PAGE)}


def test_each_picture_is_shown_and_small() -> None:
    pictures = set((SITE / "gallery").iterdir())
    assert pictures <= SHOWN.keys() and all(path.is_file() for path in SHOWN)
    assert max(path.stat().st_size for path in SHOWN) < 150_000
    assert sum(path.stat().st_size for path in SHOWN) < 1_000_000


def test_each_picture_has_an_alternative_text_that_says_what_it_shows() -> None:
    assert min(len(alt) for alt in SHOWN.values()) > 60
    assert len(set(SHOWN.values())) == len(SHOWN)


def test_each_section_has_its_command_and_its_picture() -> None:
    for section in PAGE.split("\n## ")[1:]:
        assert re.search(r"```bash\npython -m experiments", section) and "![" in section, section.splitlines()[0]
