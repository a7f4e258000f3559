"""A run's journal: one JSON line an event, appended and flushed, synced to disk with every epoch.

It is the truth of a run, whatever becomes of the tracker. Events, each with its `time` in ms:
`start` (id, name, experiment, tags, params, note, inputs, parent), `metrics` (step, values), `end` (status, reason).
Metric values that JSON has no number for are written as Python's json does: NaN, Infinity.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

FILE = "journal.jsonl"

Event = dict[str, Any]


class Journal:
    """The journal of one run, for writing.

    Args:
        folder: the run's folder, made if need be.

    Raises:
        FileExistsError: another run has its journal there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._file = self.path.open("x", encoding="utf-8")

    def start(self, **details: Any) -> None:
        """What is known of the run before its first step."""
        self._append("start", id=uuid4().hex, **details)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Figures of one step (an epoch, from 0); on disk when this returns."""
        self._append("metrics", step=step, values=dict(values))
        os.fsync(self._file.fileno())

    def end(self, status: str, reason: str = "") -> None:
        """How it ended: FINISHED, FAILED or KILLED. Nothing can follow."""
        self._append("end", status=status, reason=reason)
        os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        """Leave the journal as it is, for `end` to end it."""
        self._file.close()

    def _append(self, event: str, **details: Any) -> None:
        line = json.dumps({"event": event, "time": time.time_ns() // 1_000_000, **details})
        self._file.write(line + "\n")
        self._file.flush()


def end(folder: Path, status: str, reason: str = "") -> None:
    """End a journal that no process has open, behind a line that a dead one may have left half written."""
    path = folder / FILE
    torn = path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    event = {"event": "end", "time": time.time_ns() // 1_000_000, "status": status, "reason": reason}
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if torn else "") + json.dumps(event) + "\n")


def events(path: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """The events from a byte offset on, each with the offset behind it; a line still being written is left."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                yield json.loads(line), offset
            except json.JSONDecodeError:
                continue  # torn by a process that died, and closed by end()


def read(folder: Path) -> list[Event]:
    """All events of the run in a folder."""
    return [event for event, _ in events(folder / FILE)]


def summary(folder: Path) -> Event:
    """A run at a glance: start event, last figures, best validation loss, status.

    The status is RUNNING where the journal has no end.
    """
    start: Event = {}
    figures: dict[str, float] = {}
    series: dict[str, list[float]] = {}
    status, reason = "RUNNING", ""
    for event in read(folder):
        if event["event"] == "start":
            start = event
        elif event["event"] == "metrics":
            figures |= event["values"]
            for name, value in event["values"].items():
                series.setdefault(name, []).append(value)
        elif event["event"] == "end":
            status, reason = event["status"], event["reason"]
    return {
        "folder": folder,
        "start": start,
        "figures": figures,
        "series": series,
        "status": status,
        "reason": reason,
    }
