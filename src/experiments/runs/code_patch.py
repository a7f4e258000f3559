"""`code.patch` in a run's folder: its code's changes since the commit, as `git apply` takes them.

Of files that git does not know it has those whose code this process has imported: own components and what they import.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Set
from functools import cache
from pathlib import Path

from experiments.config import secrets
from experiments.config.source_hash import is_installed
from experiments.runs import git

log = logging.getLogger(__name__)

FILE, TAG = "code.patch", "experiments.patch"
KEPT, MASKED, OFF = "kept", "kept, secrets masked", "off"
CAP = 2**20  # bytes
# Whatever the user's settings of git are.
DIFF = ("diff", "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-relative")
PREFIXES = ("--src-prefix=a/", "--dst-prefix=b/")


def keep(folder: Path, *, wanted: bool) -> dict[str, str]:
    """Write the code's changes into a run's folder; return the run's tag on them, none where there are none."""
    if (repository := git.here()) is None:
        return {}
    if not wanted:
        return {TAG: OFF} if git.asked("status", "--porcelain") else {}
    try:
        start, size = _changes(repository.top, repository.commit, _imported(repository.top))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("the code's changes since its commit are not kept: %s", error)
        return {TAG: f"not kept: {error}"[:500]}
    if not size:
        return {}
    text = start.decode(errors="surrogateescape")
    masked = secrets.masked(text)
    (folder / FILE).write_bytes(masked.encode(errors="surrogateescape")[:CAP])
    if size > CAP:
        told = f"{size / 2**20:.1f} MiB"
        log.warning("%s is cut after 1 of %s, and experiments.replay needs it whole: commit the changes", FILE, told)
        return {TAG: f"cut: {told}"}
    return {TAG: KEPT if masked == text else MASKED}


@cache  # as the code was when it was imported; the jobs of a sweep share it
def _changes(top: Path, commit: str, imported: frozenset[str]) -> tuple[bytes, int]:
    """Return the patch's first bytes, more than are kept, and its size."""
    found = {Path(file).resolve() for file in _unknown(top, imported)}  # a patch cannot go through a link
    new = _unknown(top, {str(file) for file in found if file.is_relative_to(top) and not is_installed(file)})
    added = [("--no-index", os.devnull, os.path.relpath(file, top)) for file in sorted(new)]
    with tempfile.TemporaryFile() as patch:  # of any size
        for what in [(commit,), *added]:
            done = git.run(*DIFF, *PREFIXES, *what, output=patch, cwd=top, timeout=git.SECONDS)
            if done.returncode not in (0, 1):  # 1 of --no-index: they differ
                raise subprocess.SubprocessError(done.stderr.decode(errors="replace").strip())
        size = patch.seek(0, os.SEEK_END)
        patch.seek(0)
        start = patch.read(2 * CAP)
        return start if len(start) == size else start[: start.rfind(b"\n") + 1], size  # no half of a secret


def _unknown(top: Path, files: Set[str]) -> Set[str]:
    """Return the files that git does not know."""
    listed = git.run("ls-files", "-z", "--", *files, cwd=top, timeout=git.SECONDS).stdout if files else b""
    return files - {str(top / os.fsdecode(name)) for name in listed.split(b"\0")}


def _imported(top: Path) -> frozenset[str]:
    """Return the source files below a folder that this process has imported, without installed packages."""
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    inside = (file for file in files if file.startswith(f"{top}{os.sep}") and file.endswith(".py"))
    return frozenset(file for file in inside if not is_installed(Path(file)))
