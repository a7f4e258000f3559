"""Collects the pages of the site in one folder: those of the repository, and those that are generated.

The repository's pages stay the source. Their links to other pages lead to these in the site, their images are copied,
and a link to any other file of the repository becomes its text.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from functools import cache
from pathlib import Path

from docs.site import reference_pages, tutorial

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SITE = DOCS / "site"
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)#\s]*)(#[^)\s]+)?\)")
FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
COPIED = (".png", ".svg", ".json", ".ipynb")
STARTS = {"README.md": "Start in five minutes", "README.uz.md": "Besh daqiqada boshlash"}
TOP = {"README.md": "start.md", "README.uz.md": "uz/start.md", "CHANGELOG.md": "changes.md", "AGENTS.md": "programs.md"}
TOP["CONTRIBUTING.md"] = "contributing.md"


def write(folder: Path) -> None:
    """Write all pages into a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    for source, page in sources().items():
        text = source.read_text(encoding="utf-8")
        if source.name in STARTS:
            text = text.replace("# experiments", f"# {STARTS[source.name]}", 1)
        _write(folder, page, relinked(text, source, page, folder))
    for name, text in reference_pages.pages():
        _write(folder, name, text)
    for name, text in tutorial.pages():
        path = folder / name
        kept = path.read_text(encoding="utf-8") + "\n" if path.is_file() else ""
        _write(folder, name, kept + relinked(text, SITE / name, name, folder))


@cache
def sources() -> dict[Path, str]:
    """Return the pages of the repository, and where each is in the site."""
    own = {path: path.relative_to(SITE).as_posix() for path in SITE.rglob("*.md")}
    docs = {path: path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if path not in own}
    top = {ROOT / name: page for name, page in TOP.items()}
    return dict(sorted({**docs, **top, **own}.items()))


def relinked(text: str, source: Path, page: str, folder: Path) -> str:
    """Return a page's text with links that lead somewhere in the site; copy images into the folder."""
    here, found = posixpath.dirname(page), sources()

    def link(match: re.Match[str]) -> str:
        image, label, name, anchor = match[1], match[2], match[3], match[4] or ""
        target = Path(os.path.normpath(source.parent / name)) if name else source
        to = found.get(target)
        if to is None and target.suffix in COPIED:
            to = target.name
            _copy(target, folder / to)
        return f"{image}[{label}]({posixpath.relpath(to, here or '.')}{anchor})" if to else label

    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in FENCE.split(text))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
