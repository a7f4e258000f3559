"""A run's journal: one JSON line an event, appended and flushed, synced to disk with every epoch.

It is the truth of a run, whatever becomes of the tracker. Events, each with its `time` in ms:
`start` (id, name, experiment, tags, params, note, inputs, parent, owner, and what `resume` needs), `metrics` (step,
values), `end` (status, reason, note, tags), `resume` (owner, changed, run_key) after the run's process ended or died.
Each metric is written once for each step, NaN and Infinity as Python's json writes them.

A journal exists with its start or not at all: a run that was killed before starts again in the same folder.
While a process trains a run it holds the lock in the run's folder, which the system frees when the process dies.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from experiments.errors import TrainingError
from experiments.files import TEMPORARY, sync_folder

log = logging.getLogger(__name__)

FILE = "journal.jsonl"
LOCK = ".owner.lock"

Line = dict[str, Any]  # what is written in one line; typed in record.py


class Journal:
    """The journal of one run, for writing; its process owns the run as long as it is open.

    Args:
        folder: the run's folder, created if needed.
        reopen: continue the existing journal, instead of starting one.
        wait_seconds: how long to wait for another owner to free it.

    Raises:
        FileExistsError: the folder has a journal, and `reopen` is false.
        filelock.Timeout: another process owns the run.
    """

    def __init__(self, folder: Path, *, reopen: bool = False, wait_seconds: float = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        if not reopen and self.path.exists():
            raise FileExistsError(self.path)
        self._lock = FileLock(folder / LOCK)
        self._lock.acquire(timeout=wait_seconds)
        self._known: set[tuple[str, int]] = set()
        self._pending = b""
        self._unbegun = folder / f"{FILE}{TEMPORARY}"
        try:
            self._file = self._opened() if reopen else self._made()
        except BaseException:
            self._lock.release()
            raise
        for event, _ in lines(self.path) if reopen else ():
            if event["event"] == "metrics":
                self._known |= {(name, event["step"]) for name in event["values"]}

    def start(self, **details: Any) -> None:
        """Write what is known of the run before its first step.

        Raises:
            TrainingError: it cannot be written.
        """
        self._append("start", id=uuid4().hex, owner=owner(), **details)
        if self._pending:
            self.close()
        self._require_written()
        self._unbegun.replace(self.path)
        sync_folder(self.path.parent)

    def resume(self, **details: Any) -> None:
        """Write that the run resumes in this process."""
        self._append("resume", owner=owner(), **details)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Write metrics of one step (an epoch, from 0) to disk; those that were written before are left out."""
        fresh = {name: value for name, value in values.items() if (name, step) not in self._known}
        if fresh:
            self._known |= {(name, step) for name in fresh}
            self._append("metrics", step=step, values=fresh)

    def end(self, status: str, reason: str = "", *, note: str = "", tags: Mapping[str, str] | None = None) -> None:
        """Write how the run ended (FINISHED, PAUSED, FAILED, KILLED), and close it; a note becomes the description.

        Raises:
            TrainingError: events that could not be written still cannot be.
        """
        self._append("end", status=status, reason=reason, note=note, tags=tags or {})
        self.close()
        self._require_written()

    def _opened(self) -> int:
        file = os.open(self.path, os.O_RDWR | os.O_APPEND)
        _mend(self.path, file)
        return file

    def _made(self) -> int:
        if self.path.exists():  # since it was looked for, by the owner before
            raise FileExistsError(self.path)
        return os.open(self._unbegun, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o666)

    def _require_written(self) -> None:
        if self._pending:
            raise TrainingError(
                f"{self.path} cannot be written, {len(self._pending):,} bytes are missing there (is the disk full?): "
                f"{self._pending.decode()}"
            )

    def close(self) -> None:
        """Close the journal without an end, for another process to resume or end it."""
        os.close(self._file)
        self._lock.release()

    def _append(self, event: str, **details: Any) -> None:
        line = json.dumps({"event": event, "time": time.time_ns() // 1_000_000, **details})
        self._pending += line.encode() + b"\n"
        try:
            while self._pending:
                self._pending = self._pending[os.write(self._file, self._pending) :]
            os.fsync(self._file)
        except OSError as error:
            # Nothing is lost: what is pending is written with the next event, or reported at the end.
            log.warning("%s cannot be written (%s); it is tried again with the next metrics", self.path, error)


def owner() -> dict[str, Any]:
    """Return this process, as a journal names it."""
    return {"host": socket.gethostname(), "pid": os.getpid()}


def end(
    folder: Path,
    status: str,
    reason: str = "",
    *,
    note: str = "",
    figures: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """End a journal that no process has open; a note becomes the run's description.

    Args:
        folder: the run's.
        status: as in `Journal.end`.
        reason: likewise.
        note: the description in MLflow.
        figures: summary metrics; written under the number of this end, from 0, if they changed.
        tags: set in MLflow at the end.
    """
    now = time.time_ns() // 1_000_000
    before = [line for line, _ in lines(folder / FILE)]
    ended: Line = {"event": "end", "time": now, "status": status, "reason": reason, "note": note, "tags": tags or {}}
    added = [ended]
    if figures and [event["values"] for event in before if event["event"] == "metrics"][-1:] != [figures]:
        step = sum(event["event"] == "end" for event in before)
        added.insert(0, {"event": "metrics", "time": now, "step": step, "values": dict(figures)})
    _add(folder, added)


def tag(folder: Path, tags: Mapping[str, str]) -> None:
    """Add tags for MLflow to a journal that no process has open, which leave its end where it is."""
    _add(folder, [{"event": "tags", "time": time.time_ns() // 1_000_000, "tags": dict(tags)}])


def _add(folder: Path, events: Sequence[Line]) -> None:
    file = os.open(folder / FILE, os.O_RDWR | os.O_APPEND)
    try:
        _mend(folder / FILE, file)
        os.write(file, "".join(f"{json.dumps(event)}\n" for event in events).encode())
        os.fsync(file)
    finally:
        os.close(file)


def lines(path: Path, offset: int = 0) -> Iterator[tuple[Line, int]]:
    """Yield the events from a byte offset on, each with the offset after it; skip a line that is being written."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if isinstance(event, dict) and "event" in event:
                yield event, offset
            else:
                log.warning("%s: the line that ends at byte %d is damaged; it is left out", path, offset)


def _mend(path: Path, file: int) -> None:
    """Remove a last line that a dead process left half written."""
    content = path.read_bytes()
    os.ftruncate(file, content.rfind(b"\n") + 1)
