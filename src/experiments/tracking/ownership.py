"""Who has a run: its process holds the lock in the run's folder, which the system drops when the process dies."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.tracking import journal, record
from experiments.tracking.record import KILLED, RUNNING, Owner


def this_process() -> Owner:
    """This process, as a journal names it."""
    return Owner(socket.gethostname(), os.getpid())


def mark_killed(folder: Path, reason: str) -> bool:
    """End the journal of a run whose process on this host is gone; whether the run is ended now.

    False is a run that is in use, or one of another host, of which nothing can be known here.
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
    """Whether a process of this host has the run in a folder open; the lock of a dead one is free."""
    if not (folder / journal.LOCK).exists():
        return False
    try:
        with FileLock(folder / journal.LOCK, timeout=0):
            return False
    except Timeout:
        return True


def is_held_elsewhere(folder: Path) -> bool:
    """Whether another process has this run, or sweep, open."""
    return record.read(folder).owner != this_process() and is_running(folder)
