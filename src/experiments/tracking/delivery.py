"""One journal's way into MLflow, each event once, however often it is tried.

`delivered.json` is written after the store has the events. Whatever is sent again after a crash is recognised by the
store: the run by its journal's id, metrics by their time.
"""

from __future__ import annotations

import math
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config.store_uri import masked
from experiments.tracking import delivered, journal, links, model_process, record
from experiments.tracking.delivered import Delivered
from experiments.tracking.pending import Pending
from experiments.tracking.record import Ended, Event, Measured, Resumed, Start, Tagged
from experiments.tracking.system_metrics import Sampler

if TYPE_CHECKING:
    from experiments.tracking.mlflow_store import Store

SEND_SECONDS = 2.0  # while a run trains, its metrics are sent this often at most
REFUSED = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")  # MLflow's error codes that do not pass
# Files of a run's folder that become artifacts, by the artifact folder they go to.
ARTIFACTS = {
    "config": ("config.yaml", ".hydra/overrides.yaml", ".hydra/hydra.yaml"),
    "env": ("environment.json",),
    "code": ("code.patch",),
    "weights": ("weights.pt",),
    "script": ("plain.py", "refactoring.diff.txt", "refactoring.diff"),
    "": ("experiments.log", "error.txt", "profile.txt", "summary.md", "failures.txt", "parity.json", "replay.json"),
}
# What else a run writes; all other files are a callback's, and go to `files`.
OURS = {"checkpoints", "delivered.json", "figures", "journal.jsonl", "pictures.npz", "trace.json", "weight_images.npz"}
OURS |= {name for names in ARTIFACTS.values() for name in names}


class Delivery:
    """Upload one run's journal, then its plots and files.

    Args:
        pending: where the run is marked as undelivered until all of it has arrived; None if it is not marked.
        every: seconds between two deliveries of metrics, at least.
        sampled: whether the machine is sampled while the run trains.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        pending: Pending | None = None,
        *,
        every: float = SEND_SECONDS,
        sampled: bool = False,
    ) -> None:
        self.folder, self.store, self.pending, self.every = folder, store, pending, every
        self._size = -1  # the journal's, when all of it was sent
        self._held_size = -1  # the journal's, when metrics were held back
        self._sent_at = -math.inf
        owner = record.read(folder).owner if sampled and not record.start_of(folder).is_sweep else None
        self._sampler = None
        try:
            self._sampler = Sampler(owner) if owner else None
        except Exception:  # noqa: BLE001  # the process has ended, or MLflow's variables are wrong: the run is sent
            traceback.print_exc()

    def advance(self) -> bool:
        """Send what is new. Return whether the run has ended and its whole journal has arrived.

        Start and end are sent at once. Metrics wait for others, since sending slows the training beside it.
        """
        size = (self.folder / journal.FILE).stat().st_size
        if size == self._size or (size == self._held_size and not self._due()):
            return False
        with delivered.lock(self.folder):
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

    def sample(self) -> None:
        """Send a sample of the machine, if one is due; a sample that the store does not take is left out."""
        if self._sampler and self._sampler.due and (run_id := self._progress().run_id):
            self.store.metrics(run_id, [self._sampler.sample()])

    def _due(self) -> bool:
        return time.monotonic() - self._sent_at >= self.every

    def finish(self) -> bool:
        """Draw the plots and send every file, once the run has ended. Return whether all of it has arrived.

        It has not where the run was resumed meanwhile: then its next end sends them.
        """
        with delivered.lock(self.folder):
            progress = self._progress()
            if not progress.ended or delivered.went_on(self.folder, progress):
                return False
            if not progress.complete:
                self._send_files(progress.run_id)
                if problem := model_process.log(self.folder, self.store.uri):
                    self.store.tags(progress.run_id, {"experiments.model": f"not logged: {problem}"[:5000]})
                progress.complete = True
                self._save(progress)
        if self.pending is not None:
            self.pending.remove(self.folder)
            if delivered.went_on(self.folder, progress):  # and was marked again, just before
                self.pending.add(self.folder)
        return True

    def _send_files(self, run_id: str) -> None:
        from experiments.tracking.figures import draw

        for plot in draw(self.folder):
            self.store.file(run_id, plot, "figures")
        for target, names in ARTIFACTS.items():
            for name in names:
                if (self.folder / name).is_file():
                    self.store.file(run_id, self.folder / name, target)
        for path in () if record.start_of(self.folder).is_sweep else sorted(self.folder.rglob("[!.]*")):
            place = path.relative_to(self.folder)
            if path.is_file() and place.parts[0] not in OURS and not place.parts[0].startswith("."):
                self.store.file(run_id, path, str(Path("files", place.parent)))

    def _send(self, events: list[Event], progress: Delivered) -> None:
        """Send the start, all metrics at once, then each end and resumption in turn."""
        for event in events:
            if isinstance(event, Start):
                progress.run_id = self.store.create(event, self._parent(event))
                progress.experiment_id = self.store.experiment(str(event.experiment))
                self.store.describe(progress.run_id, event)
        if measured := [event for event in events if isinstance(event, Measured)]:
            self.store.metrics(progress.run_id, measured)
        for event in events:
            if isinstance(event, Resumed):
                self.store.reopen(progress.run_id, event.changed)
                progress.ended = progress.complete = False
            elif isinstance(event, Tagged):
                self.store.tags(progress.run_id, event.tags)
            elif isinstance(event, Ended):
                tags = {"experiments.reason": event.reason[:5000]} if event.reason else {}
                tags |= event.tags
                note, best = event.note, delivered.state(Path(event.tags.get("best/folder", "/nowhere")))
                if best.run_id and best.store == progress.store:
                    tags["best/run"] = best.run_id
                    note = f"[The best run]({links.run(best)})\n\n{note}"
                tags |= {"mlflow.note.content": note} if note else {}
                if tags:
                    self.store.tags(progress.run_id, tags)
                self.store.end(progress.run_id, event.status, event.time)
                progress.ended, progress.complete = True, False

    def _parent(self, start: Start) -> str | None:
        if start.parent is None:
            return None
        parent = Delivery(start.parent, self.store)
        parent.advance()
        return delivered.state(parent.folder).run_id

    def _progress(self) -> Delivered:
        """Return how far the run has arrived in this store; another store's progress does not count."""
        store = masked(self.store.uri)
        found = delivered.state(self.folder)
        return found if found.store == store else Delivered(store)

    def _save(self, progress: Delivered) -> None:
        progress.error, progress.final = "", False
        delivered.write(self.folder, progress)


def is_final(error: Exception) -> bool:
    """Return whether a further attempt cannot succeed: the store refuses, as with a run that was deleted there."""
    return bool(getattr(error, "final", False)) or getattr(error, "error_code", None) in REFUSED
