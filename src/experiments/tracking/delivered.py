"""How far each run's journal has arrived in MLflow, kept beside it in `delivered.json`.

The file is only a note. Without it, or with one that a dying machine damaged, everything is sent again, and the store
recognises what it has.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from experiments.config.store_uri import masked
from experiments.errors import first_line
from experiments.tracking import journal

FILE = "delivered.json"
LOCK = ".delivery.lock"


@dataclass
class Delivered:
    """How far a run's journal has arrived.

    Args:
        store: the store, without a password; None before the first delivery.
        run_id: the run in MLflow; empty if it is not there yet.
        experiment_id: its experiment in MLflow.
        offset: bytes of the journal that were sent.
        ended: whether the run's end was sent.
        complete: whether plots and files were sent as well.
        error: why nothing more arrives, in one line; empty if all is well.
        final: whether a further attempt cannot succeed.
    """

    store: str | None = None
    run_id: str = ""
    experiment_id: str = ""
    offset: int = 0
    ended: bool = False
    complete: bool = False
    error: str = ""
    final: bool = False


def state(folder: Path) -> Delivered:
    """Return how far a run's journal has arrived."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Delivered(**{name: found[name] for name in Delivered.__dataclass_fields__ if name in found})
    except (FileNotFoundError, ValueError, TypeError):
        return Delivered()


def is_in(folder: Path, uri: str) -> bool:
    """Return whether a store has the run, to its end."""
    return state(folder).store == masked(uri) and arrived(folder)


def arrived(folder: Path) -> bool:
    """Return whether a store has all of the run's journal; an end is not all of it where the run was resumed."""
    found = state(folder)
    return found.ended and not went_on(folder, found)


def went_on(folder: Path, progress: Delivered) -> bool:
    """Return whether the journal has more events than were sent; a damaged line at its end is none."""
    path = folder / journal.FILE
    return path.stat().st_size > progress.offset and any(True for _ in journal.lines(path, progress.offset))


def lock(folder: Path, timeout: float = -1) -> FileLock:
    """Return the lock of one run's delivery, which its writer holds."""
    return FileLock(folder / LOCK, timeout=timeout)


def write(folder: Path, progress: Delivered) -> None:
    """Replace the note, whole or not at all; the caller holds the lock."""
    temporary = folder / f"{FILE}.part"
    temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
    temporary.replace(folder / FILE)


def report(folder: Path, error: Exception, *, final: bool) -> None:
    """Note why nothing more arrives, for whoever waits; the uploader's log has the whole error."""
    with lock(folder):
        write(folder, replace(state(folder), error=first_line(masked(str(error))) or type(error).__name__, final=final))


def forget(folder: Path) -> None:
    """Have the whole run sent again."""
    with lock(folder):
        (folder / FILE).unlink(missing_ok=True)


def forget_error(folder: Path) -> None:
    """Clear the error of an earlier attempt before another one starts."""
    # Whoever holds the lock is sending now, and reports again.
    with contextlib.suppress(Timeout), lock(folder, timeout=0):
        found = state(folder)
        if found.error:
            write(folder, replace(found, error="", final=False))
