"""Repositories of real git, in which runs are started, and what git says of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from experiments.runs import git
from experiments.runs.metadata import git_tags

NOBODY = ("-c", "user.name=nobody", "-c", "user.email=nobody@localhost")


def answer(folder: Path, *arguments: str) -> str:
    """What git prints in a folder; it has to succeed."""
    words = ["git", *NOBODY, *arguments]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True, errors="replace").stdout


def committed(folder: Path, **files: str) -> Path:
    """A repository with one commit of these files, `name_py` for name.py."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_py", ".py")).write_text(text, encoding="utf-8")
    answer(folder, "init", "--quiet")
    answer(folder, "add", "--all")
    answer(folder, "commit", "--quiet", "--allow-empty", "--message", "first")
    return folder


def work_in(folder: Path) -> None:
    """Work in a folder as a process that was started there: nothing is known of another repository."""
    os.chdir(folder)
    git.here.cache_clear()
    git_tags.cache_clear()


def tree(folder: Path) -> dict[str, bytes]:
    """The files below a folder, but for git's own and a run's."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = {path.relative_to(folder): path.read_bytes() for path in files}
    return {str(path): text for path, text in found.items() if not {".git", "outputs", "run"} & {*path.parts}}
