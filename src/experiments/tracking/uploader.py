"""The process that uploads journals to MLflow beside the training: `python -m experiments.tracking.uploader`.

Its parent sends its settings on standard input, then the runs' folders, one JSON line each. The uploader follows their
journals until they end, then draws the plots and sends the files. It outlives its parent until everything is uploaded.
It also uploads what another process left: undelivered runs whose process on this host is gone. Of a sweep it uploads
all jobs, whichever process or machine trains them: there is one writer, and no worker talks to MLflow.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import cli
from experiments.config import secrets
from experiments.config.secrets import masked
from experiments.tracking import delivered, journal, ownership, record
from experiments.tracking.delivery import Delivery, is_final
from experiments.tracking.pending import Pending

if TYPE_CHECKING:
    from experiments.tracking.mlflow_store import Store

LOG = "uploader.log"
POLL_SECONDS = 0.05
RETRY_SECONDS = 2.0
LOOK_SECONDS = 1.0  # how often it looks for jobs that other processes started, and for dead ones
# How long an unavailable store is tried again after the parent has gone; after that, `sync` uploads.
PATIENCE_SECONDS = 30.0


class Uploader:
    """Follow journals until the parent process is gone and all of them are delivered.

    Args:
        open_store: connects to MLflow; called again while it fails.
        parent: the id of the process whose runs they are.
        pending: the undelivered runs.
        sampled: whether the machine is sampled while the runs train.
    """

    def __init__(
        self, open_store: Callable[[], Store], parent: int, pending: Pending, *, sampled: bool = False
    ) -> None:
        self.open_store, self.parent, self.pending, self.sampled = open_store, parent, pending, sampled
        self.inbox: queue.Queue[Path] = queue.Queue()
        self.closed = threading.Event()
        self.store: Store | None = None
        self.waiting: list[Path] = []  # named, the store not yet open
        self.running: list[Delivery] = []  # their journals still grow
        self.ended: list[Delivery] = []  # delivered but for plots and files
        self.adopted: set[Path] = set()  # left by others
        self.sweeps: set[Path] = set()  # whose jobs it uploads
        self.looked = 0.0
        self.failed = False

    def listen(self) -> None:
        """Read folders from standard input until it is closed."""
        for line in sys.stdin:
            self.inbox.put(Path(json.loads(line)))
        self.closed.set()

    def work(self) -> int:
        """Upload until nothing is left to do. Return 1 if something could not be delivered."""
        gone_at = None
        while True:
            while not self.inbox.empty():
                self.waiting.append(self.inbox.get())
                self.adopted.discard(self.waiting[-1])
            if gone_at is None and (self.closed.is_set() or os.getppid() != self.parent):
                gone_at, self.looked = time.monotonic(), 0.0  # nobody waits now: the last look is at once
            reached = self._turn(parent_gone=gone_at is not None)
            if gone_at is not None and self.inbox.empty():
                late = time.monotonic() - gone_at > PATIENCE_SECONDS
                if not (self.waiting or self.running or self.ended) or (late and not reached):
                    return int(self.failed or not reached)
            time.sleep(POLL_SECONDS if reached else RETRY_SECONDS)

    def _turn(self, *, parent_gone: bool) -> bool:
        """Look once at everything. Return whether the store was available."""
        try:
            if self.waiting:
                if self.store is None:
                    self.store = self.open_store()
                    self.adopted = set(self._left_by_others(self.store.uri))
                    self.waiting += sorted(self.adopted)
                followed = {delivery.folder for delivery in self.running}
                fresh = [folder for folder in dict.fromkeys(self.waiting) if folder not in followed]
                self.running += [Delivery(folder, self.store, self.pending, sampled=self.sampled) for folder in fresh]
                self.sweeps |= {folder for folder in fresh if record.start_of(folder).is_sweep}
                self.ended = [delivery for delivery in self.ended if delivery.folder not in fresh]
                self.waiting = []
            self._look_around(parent_gone=parent_gone)
        except Exception as error:  # noqa: BLE001  # whatever the store raises is reported, and tried again
            print(masked(traceback.format_exc()), file=sys.stderr)
            for folder in self.waiting:
                delivered.report(folder, error, final=is_final(error))
            return False
        reached = False not in [self._deliver(delivery, parent_gone) for delivery in list(self.running)]
        # Plots and files wait until nothing trains, in a sweep for its last job: they would slow it down.
        if reached and self.ended and not self.running:
            reached = self._attempt(self.ended[0], self.ended[0].finish) is not None
            if reached and self.ended:
                del self.ended[0]
        return reached

    def _look_around(self, *, parent_gone: bool) -> None:
        """Follow the jobs of these sweeps that other processes started; end the journals of dead processes."""
        if not self.sweeps or time.monotonic() - self.looked < LOOK_SECONDS:
            return
        self.looked = time.monotonic()
        running = {delivery.folder: delivery for delivery in self.running}
        for folder in self.pending.fresh():
            if folder not in running and record.start_of(folder).parent in self.sweeps:
                self.inbox.put(folder)
        here = replace(ownership.this_process(), pid=self.parent)
        for folder, delivery in running.items():
            owner = record.read(folder).owner
            if owner == here or ownership.mark_killed(folder):
                continue
            if parent_gone and owner is not None and owner.host != here.host:
                # Another host's processes cannot be seen from here, and nobody waits any more: `sync` uploads it.
                self.running.remove(delivery)

    def _left_by_others(self, uri: str) -> list[Path]:
        """Return this store's undelivered runs whose process on this host is gone."""
        found = []
        for folder in self.pending.runs():
            if not (folder / journal.FILE).is_file():
                self.pending.remove(folder)
                continue
            if folder in self.waiting or record.start_of(folder).store != masked(uri):
                continue
            if ownership.mark_killed(folder):
                found.append(folder)
        return found

    def _deliver(self, delivery: Delivery, parent_gone: bool) -> bool:
        ended = self._attempt(delivery, delivery.advance)
        if ended is False:
            with contextlib.suppress(Exception):  # whatever the store raises, the journal's delivery reports
                delivery.sample()
        if ended and delivery in self.running:
            self.running.remove(delivery)
            self.ended.append(delivery)
        elif ended is False and parent_gone and self._is_parents(delivery.folder):
            # Nobody else will end the run of a process that is gone.
            ownership.mark_killed(delivery.folder)
        return ended is not None

    def _attempt(self, delivery: Delivery, action: Callable[[], bool]) -> bool | None:
        """Return the action's result; None if it has to be tried again. A run that is refused for good is dropped."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001  # as above
            print(masked(traceback.format_exc()), file=sys.stderr)
            delivered.report(delivery.folder, error, final=is_final(error))
            if is_final(error):
                self.failed = True
                self.running = [other for other in self.running if other is not delivery]
                self.pending.remove(delivery.folder)
                return True
            if delivery.folder in self.adopted:
                # The next start tries it again; this process's own runs do not wait for it.
                self.running = [other for other in self.running if other is not delivery]
                self.ended = [other for other in self.ended if other is not delivery]
            return None

    def _is_parents(self, folder: Path) -> bool:
        owner = record.read(folder).owner
        return owner is not None and owner.pid == self.parent


def _log_to(path: Path) -> None:
    """Write everything this process prints to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def main() -> int:
    """Upload the runs of the process that started this one."""
    cli.collect_rarely()
    settings = json.loads(sys.stdin.readline())
    secrets.mask_process()
    secrets.learn_arguments([f"uri={settings['uri']}"])
    if hasattr(os, "nice"):
        os.nice(19)  # training comes first: at 10 its first epoch took 1.4 times as long on two cores
    output_root = Path(settings["output_root"])

    def open_store() -> Store:
        _log_to(output_root / LOG)
        return Store(settings["uri"], output_root / "artifacts")

    # At once: importing MLflow takes seconds, which the parent spends importing torch.
    from experiments.tracking.mlflow_store import Store

    sampled = bool(settings.get("system_metrics"))
    uploader = Uploader(open_store, settings["parent"], Pending(output_root), sampled=sampled)
    threading.Thread(target=uploader.listen, daemon=True).start()
    return uploader.work()


if __name__ == "__main__":
    sys.exit(main())
