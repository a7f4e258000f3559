"""Runs that are not wholly in MLflow yet: one small file each, so that whoever is next brings what another left."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

FOLDER = "undelivered"


class Pending:
    """The undelivered runs below one output folder.

    Args:
        output_root: the folder of everything that runs leave behind.
    """

    def __init__(self, output_root: Path) -> None:
        self.folder = output_root / FOLDER
        self._seen: dict[Path, int] = {}

    def add(self, run: Path) -> None:
        """Note a run, before anything of it is sent."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._note(run).write_text(str(run), encoding="utf-8")

    def remove(self, run: Path) -> None:
        """Forget a run that is delivered."""
        self._note(run).unlink(missing_ok=True)

    def runs(self) -> list[Path]:
        """The folders of the noted runs."""
        return [run for note in sorted(self.folder.glob("*.run")) if (run := _read(note))]

    def fresh(self) -> list[Path]:
        """The folders that were noted, or noted again, since this was last asked."""
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
    """The folder in a note; None where it was delivered just now, or is being written."""
    with contextlib.suppress(FileNotFoundError):
        if run := note.read_text(encoding="utf-8"):
            return Path(run)
    return None
