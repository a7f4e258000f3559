"""Runs that are not complete in MLflow: one marker file each, so that a later process uploads what is missing."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

FOLDER = "undelivered"


class Pending:
    """The undelivered runs below one output folder."""

    def __init__(self, output_root: Path) -> None:
        self.folder = output_root / FOLDER
        self._seen: dict[Path, int] = {}

    def add(self, run: Path) -> None:
        """Mark a run as undelivered, before anything of it is sent."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._note(run).write_text(str(run), encoding="utf-8")

    def remove(self, run: Path) -> None:
        """Remove the marker of a run that is delivered."""
        self._note(run).unlink(missing_ok=True)

    def runs(self) -> list[Path]:
        """Return the folders of the undelivered runs."""
        return [run for note in sorted(self.folder.glob("*.run")) if (run := _read(note))]

    def fresh(self) -> list[Path]:
        """Return the folders that were added, or added again, since the last call."""
        found = []
        for note in self.folder.glob("*.run"):
            with contextlib.suppress(FileNotFoundError):  # delivered just now
                written = note.stat().st_mtime_ns
                if self._seen.get(note) != written and (run := _read(note)):
                    self._seen[note] = written
                    found.append(run)
        return found

    def _note(self, run: Path) -> Path:
        return self.folder / f"{hashlib.sha256(str(run).encode()).hexdigest()[:16]}.run"


def _read(note: Path) -> Path | None:
    """Return the folder in a marker file; None if it was delivered just now, or is being written."""
    with contextlib.suppress(FileNotFoundError):
        if run := note.read_text(encoding="utf-8"):
            return Path(run)
    return None
