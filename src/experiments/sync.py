"""`python -m experiments.sync [FOLDER ...]`: upload runs that are not complete in MLflow; twice changes nothing.

A run whose process on this host is gone is ended as KILLED first. A run that is in use, or another host's, is uploaded
as far as it is. Each run goes to the store that it was started for.
--again is for a store that has lost runs: it uploads them again, and does not double those that the store still has.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import answer, cli
from experiments.config import latest
from experiments.config.store_uri import masked, sqlite_path, store_uri, uri_fault
from experiments.errors import ConfigError, Fault
from experiments.tracking import delivered, journal, ownership, record
from experiments.tracking.delivery import Delivery
from experiments.tracking.pending import Pending

if TYPE_CHECKING:
    from experiments.tracking.mlflow_store import Store

OUTPUTS = Path("outputs")
UPLOADED, UP_TO_DATE, RUNNING, UNTRACKED, FAILED = "uploaded", "up to date", "still running", "not tracked", "failed"


@dataclass(frozen=True)
class SyncedRun:
    """A run or a sweep.

    Args:
        folder: absolute.
        outcome: uploaded, up to date, still running, not tracked or failed.
    """

    folder: Path
    outcome: str


@dataclass(frozen=True)
class Synced:
    """The runs below some folders.

    Args:
        runs: each of them, a sweep before its jobs.
    """

    runs: Sequence[SyncedRun]


class Sync:
    """Upload runs to their stores.

    Args:
        uri: the store for all of them; None for each one's own.
        again: also upload runs that were uploaded before.
    """

    def __init__(self, uri: str | None, *, again: bool = False) -> None:
        self.uri, self.again = uri, again
        self.pending = Pending(OUTPUTS.resolve())
        self._stores: dict[str, Store] = {}

    def upload(self, folder: Path) -> str:
        """Upload what a run's store does not have yet, and return the outcome's name."""
        try:
            return self._upload(folder)
        except Exception as error:  # noqa: BLE001  # whatever the store raises is reported, and the next run uploaded
            print(f"{folder}: {masked(str(error))}", file=sys.stderr)
            return FAILED

    def _upload(self, folder: Path) -> str:
        uri = self._target(folder)
        if uri is None:
            return UNTRACKED
        ended = ownership.mark_killed(folder)
        if self.again:
            delivered.forget(folder)
        state = delivered.state(folder)
        fresh = next(record.events(folder, state.offset), None)
        if state.store == masked(uri) and state.complete and fresh is None:
            self.pending.remove(folder)
            return UP_TO_DATE
        run = Delivery(folder, self._store(uri), self.pending)
        if run.advance() and run.finish():
            return UPLOADED
        if not ended:
            print(f"{folder}: uploaded so far; in use by {record.read(folder).owner}")
        return RUNNING

    def _target(self, folder: Path) -> str | None:
        start = record.start_of(folder)
        own, before = start.store, Path(start.place.folder)
        if self.uri is not None or own is None:
            return self.uri
        if own == masked(store_uri(None)):
            return store_uri(None)  # with the password that is not written down
        if (database := sqlite_path(own)) is not None and database.parent == before and not before.exists():
            return store_uri(f"sqlite:///{database.name}")  # the project was moved, with its database
        if "***" in own:
            raise ValueError(f"its store is {own}, whose password is not kept; give the whole address with --uri")
        return own

    def _store(self, uri: str) -> Store:
        if uri not in self._stores:
            from experiments.tracking.mlflow_store import Store

            self._stores[uri] = Store(uri, OUTPUTS.resolve() / "artifacts")
        return self._stores[uri]

    def store(self, folder: Path) -> Store:
        """Return the store that has an uploaded run."""
        return self._store(str(self._target(folder)))


def main(arguments: list[str] | None = None) -> int:
    """Upload every journal below the folders; return 1 if one failed.

    Raises:
        ConfigError: a folder does not exist, or the address is none.
    """
    parser = cli.parser("sync", __doc__, answers=True)
    parser.add_argument(
        "folders", nargs="*", type=latest.meant, default=[OUTPUTS], metavar="FOLDER", help="default: outputs; or latest"
    )
    parser.add_argument("--uri", help="the store for all runs, instead of the one that each was started for")
    parser.add_argument("--again", action="store_true", help="upload again what was uploaded before, too")
    given = parser.parse_args(arguments)
    for folder in given.folders:
        if not folder.is_dir():
            raise ConfigError(Fault(str(folder), "there is no such folder"))
    if given.uri and (problem := uri_fault(given.uri)):
        raise ConfigError(Fault("--uri", problem))
    sync = Sync(store_uri(given.uri) if given.uri else None, again=given.again)
    # Journals in the order of their folders, so that a sweep comes before its jobs.
    runs = sorted({path.parent for folder in given.folders for path in folder.resolve().rglob(journal.FILE)})
    found = {run: sync.upload(run) for run in runs}
    answer.give(Synced([SyncedRun(run, outcome) for run, outcome in found.items()]))
    counts = Counter(found.values())
    outcomes = (UPLOADED, UP_TO_DATE, RUNNING, UNTRACKED, FAILED)
    print(", ".join(f"{counts[outcome]} {outcome}" for outcome in outcomes if counts[outcome]) or "no runs")
    return int(counts[FAILED] > 0)


if __name__ == "__main__":
    cli.guarded(main, json="sync" if "--json" in sys.argv[1:] else None)
