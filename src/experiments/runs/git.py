"""Git, as far as runs need it: fixed words, no shell, no hooks."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

SECONDS = 5  # a run's start does not wait longer
# Tags of a run: its commit, whether files differed from it, and the working folder below the repository's top.
COMMIT, DIRTY, BELOW = "mlflow.source.git.commit", "experiments.git.dirty", "experiments.git.folder"


@dataclass(frozen=True)
class Repository:
    """The repository that a process works in: its top, the working folder below it, its commit."""

    top: Path
    below: str
    commit: str


def run(*arguments: str, output: Any = subprocess.PIPE, **how: Any) -> subprocess.CompletedProcess[bytes]:
    """Run git to its end; `how` as of `subprocess.run`, which also says what is raised."""
    words = ["git", "-c", "core.hooksPath=/dev/null", *arguments]
    return subprocess.run(words, stdout=output, stderr=subprocess.PIPE, check=False, **how)  # noqa: S603  # see above


def asked(*arguments: str, cwd: Path | None = None) -> str:
    """Return what git answers; empty where it fails."""
    try:
        done = run(*arguments, cwd=cwd, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="surrogateescape").strip() if done.returncode == 0 else ""


@cache
def here() -> Repository | None:
    """Return the repository of the working folder; None outside one, or before its first commit."""
    if not (found := asked("rev-parse", "--show-toplevel", "--show-prefix", "HEAD")):
        return None
    top, below, commit = found.split("\n")
    return Repository(Path(top), below.rstrip("/"), commit)
