"""Which process owns a run: it holds the lock in the run's folder, which the system frees when the process dies."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.tracking import journal, record
from experiments.tracking.record import KILLED, RUNNING, Owner


def this_process() -> Owner:
    """Return this process, as a journal names it."""
    return Owner(socket.gethostname(), os.getpid())


DIED = "its process died"


def mark_killed(folder: Path, reason: str = DIED) -> bool:
    """End the journal of a run whose process on this host is gone. Return whether the run has ended.

    It has not where it is in use, or where it is another host's, whose processes cannot be seen from here.
    """
    run = record.read(folder)
    if run.status != RUNNING:
        return True
    if run.owner is None or run.owner.host != socket.gethostname():
        return False
    try:
        with FileLock(folder / journal.LOCK, timeout=0):
            if record.read(folder).status == RUNNING:
                journal.end(folder, KILLED, reason)
    except Timeout:
        return False
    return True


def is_running(folder: Path) -> bool:
    """Return whether a process of this host holds the run in a folder; the lock of a dead one is free."""
    if not (folder / journal.LOCK).exists():
        return False
    try:
        with FileLock(folder / journal.LOCK, timeout=0):
            return False
    except Timeout:
        return True


def is_held_elsewhere(folder: Path) -> bool:
    """Return whether another process holds this run, or sweep."""
    return record.read(folder).owner != this_process() and is_running(folder)
