"""One journal's way into MLflow: from where it got to the last time, as often as needed, each event once.

How far it got is kept beside the journal (`delivered.json`), written after the store has taken the events. Whatever
is sent again after a crash is recognised by the store: the run by its journal's id, figures by their time.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from experiments.config.store_uri import masked
from experiments.tracking import journal, record
from experiments.tracking.record import Ended, Event, Measured, Resumed, Start

if TYPE_CHECKING:
    from experiments.tracking.mlflow_store import Store

FILE = "delivered.json"
LOCK = ".delivery.lock"
# While a run goes on, its figures are sent this often at most.
SEND_SECONDS = 2.0
REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")  # what MLflow says then
# Files of a run's folder that become artifacts, by the artifact folder they go to.
ARTIFACTS = {
    "config": ("config.yaml", ".hydra/overrides.yaml", ".hydra/hydra.yaml"),
    "env": ("environment.json",),
    "weights": ("weights.pt",),
    "script": ("plain.py", "refactoring.diff"),
    "": ("experiments.log", "error.txt", "profile.txt", "summary.md", "failures.txt", "parity.json"),
}


@dataclass
class Delivered:
    """How far a run's journal got.

    Args:
        store: where to, without a password; None for nowhere yet.
        run_id: the run in MLflow; empty where it is not there yet.
        experiment_id: its experiment in MLflow.
        offset: bytes of the journal that were taken.
        ended: whether the run's end was.
        complete: whether plots and files are there as well.
        error: why nothing more arrives, in a line; empty where nothing is wrong.
        final: whether trying again will not mend that.
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
    """How far a run's journal got.

    Nothing hangs on it: without it, or with one that a dying machine left damaged, all is sent again.
    """
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Delivered(**{name: found[name] for name in Delivered.__dataclass_fields__ if name in found})
    except (FileNotFoundError, ValueError, TypeError):
        return Delivered()


def is_in(folder: Path, uri: str) -> bool:
    """Whether a run is in a store, to its end."""
    found = state(folder)
    return found.ended and found.store == masked(uri)


class Delivery:
    """Brings one run's journal to a store."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self._size = -1  # the journal's, when all of it was sent
        self._held_size = -1  # and when figures were held back
        self._sent_at = -math.inf

    def advance(self) -> bool:
        """Send what is new; whether the run has ended and all of it is there.

        How it begins and ends is sent at once. Figures wait for others, since sending costs the training beside it.
        """
        size = (self.folder / journal.FILE).stat().st_size
        if size == self._size or (size == self._held_size and not self._due()):
            return False
        with FileLock(self.folder / LOCK):
            progress = self._progress()
            fresh = list(record.events(self.folder, progress.offset))
            if fresh and all(isinstance(event, Measured) for event, _ in fresh) and not self._due():
                self._held_size = size
                return False
            if fresh:
                self._send([event for event, _ in fresh], progress)
                progress.offset = fresh[-1][1]
                self._save(progress)
                self._sent_at = time.monotonic()
            if not progress.ended:
                self._size = size
            return progress.ended

    def _due(self) -> bool:
        return time.monotonic() - self._sent_at >= SEND_SECONDS

    def finish(self) -> bool:
        """Draw the pictures and send every file; after the end, since nobody waits for them. True when done.

        False where the run goes on again: whoever brings that brings its files.
        """
        with FileLock(self.folder / LOCK):
            progress = self._progress()
            if progress.complete or not progress.ended:
                return progress.ended
            from experiments.tracking.figures import draw

            try:
                pictures = draw(self.folder)
            except Exception:  # noqa: BLE001  # whatever is wrong with them, the other files come all the same
                traceback.print_exc()
                pictures = []
            for picture in pictures:
                self.store.file(progress.run_id, picture, "figures")
            for target, names in ARTIFACTS.items():
                for name in names:
                    if (self.folder / name).is_file():
                        self.store.file(progress.run_id, self.folder / name, target)
            progress.complete = True
            self._save(progress)
            return True

    def _send(self, events: list[Event], progress: Delivered) -> None:
        """All figures at once; and of how the run started, ended and resumed, what came last."""
        for event in events:
            if isinstance(event, Start):
                progress.run_id = self.store.create(event, self._parent(event))
                progress.experiment_id = self.store.experiment(str(event.experiment))
                self.store.describe(progress.run_id, event)
        if figures := [event for event in events if isinstance(event, Measured)]:
            self.store.metrics(progress.run_id, figures)
        for event in events:
            if isinstance(event, Resumed):
                self.store.reopen(progress.run_id, event.changed)
                progress.ended = progress.complete = False
            elif isinstance(event, Ended):
                tags = {"experiments.reason": event.reason[:5000]} if event.reason else {}
                tags |= event.tags
                tags |= {"mlflow.note.content": event.note} if event.note else {}
                if tags:
                    self.store.tags(progress.run_id, tags)
                self.store.end(progress.run_id, event.status, event.time)
                progress.ended, progress.complete = True, False

    def _parent(self, start: Start) -> str | None:
        if start.parent is None:
            return None
        parent = Delivery(start.parent, self.store)
        parent.advance()
        return state(parent.folder).run_id

    def _progress(self) -> Delivered:
        """How far it got in this store; in another one nothing is there yet."""
        store = masked(self.store.uri)
        found = state(self.folder)
        return found if found.store == store else Delivered(store)

    def _save(self, progress: Delivered) -> None:
        progress.error, progress.final = "", False
        _write(self.folder, progress)


def meant_for(folder: Path) -> str | None:
    """The store that a run's journal was begun for, without a password; None where it was for none."""
    return record.start_of(folder).store


def is_final(error: Exception) -> bool:
    """Whether trying again will not mend it: the store refuses, as it does with a run that was deleted meanwhile."""
    return bool(getattr(error, "final", False)) or getattr(error, "error_code", None) in REFUSED


def tell(folder: Path, error: Exception) -> None:
    """Leave word why nothing more arrives, for whoever waits."""
    words = [*masked(str(error)).splitlines(), type(error).__name__]  # all of them are in the uploader's log
    with FileLock(folder / LOCK):
        _write(folder, replace(state(folder), error=words[0], final=is_final(error)))


def forget(folder: Path) -> None:
    """Have all of a run brought anew."""
    with FileLock(folder / LOCK):
        (folder / FILE).unlink(missing_ok=True)


def forget_error(folder: Path) -> None:
    """Take back what an earlier attempt told, before another begins."""
    # Whoever holds the lock is at it now, and tells anew.
    with contextlib.suppress(Timeout), FileLock(folder / LOCK, timeout=0):
        found = state(folder)
        if found.error:
            _write(folder, replace(found, error="", final=False))


def _write(folder: Path, progress: Delivered) -> None:
    temporary = folder / f"{FILE}.part"
    temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
    temporary.replace(folder / FILE)
