"""`python -m experiments.sync [FOLDER ...]`: bring runs to MLflow that are not there yet; twice changes nothing.

A run whose process on this host is gone is ended as KILLED first; one that still lives, or that another host began,
is uploaded so far. Each goes to the store that it was begun for.
--again is for a store that has lost runs: they are brought anew, and those that it still has are not doubled.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config.store_uri import masked, store_uri
from experiments.tracking import delivery, journal, ownership, record
from experiments.tracking.pending import Pending

if TYPE_CHECKING:
    from experiments.tracking.mlflow_store import Store

OUTPUTS = Path("outputs")


class Sync:
    """Brings runs to their stores, and counts.

    Args:
        uri: the store for all of them; None for each one's own.
        again: bring those too that were brought before.
    """

    def __init__(self, uri: str | None, *, again: bool = False) -> None:
        self.uri, self.again = uri, again
        self.brought = self.there = self.failed = self.running = self.untracked = 0
        self._stores: dict[str, Store] = {}

    def bring(self, folder: Path) -> None:
        """See that one run is in its store, as far as it is ended."""
        try:
            uri = self._target(folder)
            if uri is None:
                self.untracked += 1
                return
            ended = ownership.mark_killed(folder, "its process died")
            if self.again:
                delivery.forget(folder)
            state = delivery.state(folder)
            fresh = next(record.events(folder, state.offset), None)
            if state.store == masked(uri) and state.complete and fresh is None:
                self.there += 1
                Pending(OUTPUTS.resolve()).remove(folder)
                return
            run = delivery.Delivery(folder, self._store(uri))
            if run.advance() and run.finish():
                self.brought += 1
                Pending(OUTPUTS.resolve()).remove(folder)
            elif not ended:
                self.running += 1
                print(f"{folder}: uploaded so far; {record.read(folder).owner} is at it")
        except Exception as error:  # noqa: BLE001  # whatever the store raises is told, and the next run's turn comes
            self.failed += 1
            print(f"{folder}: {masked(str(error))}", file=sys.stderr)

    def _target(self, folder: Path) -> str | None:
        own = delivery.meant_for(folder)
        if self.uri is not None or own is None:
            return self.uri
        if own == masked(store_uri(None)):
            return store_uri(None)  # with the password that is not written down
        if "***" in own:
            raise ValueError(f"its store is {own}, whose password is kept nowhere; give the address with --uri")
        return own

    def _store(self, uri: str) -> Store:
        if uri not in self._stores:
            from experiments.tracking.mlflow_store import Store

            self._stores[uri] = Store(uri, OUTPUTS.resolve() / "artifacts")
        return self._stores[uri]


def main(arguments: list[str] | None = None) -> int:
    """Deliver every journal below the folders; 1 where one could not be, 2 where there is no such folder."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sync", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[OUTPUTS], metavar="FOLDER")
    parser.add_argument("--uri", help="the store, instead of the one that each run was begun for")
    parser.add_argument("--again", action="store_true", help="bring anew what was brought before, too")
    given = parser.parse_args(arguments)
    for folder in given.folders:
        if not folder.is_dir():
            print(f"error: there is no folder {folder}", file=sys.stderr)
            return 2
    sync = Sync(store_uri(given.uri) if given.uri else None, again=given.again)
    # Journals in the order of their folders, so that a sweep comes before its jobs.
    for run in sorted({path.parent for folder in given.folders for path in folder.resolve().rglob(journal.FILE)}):
        sync.bring(run)
    words = {
        "uploaded": sync.brought,
        "up to date": sync.there,
        "still running": sync.running,
        "not tracked": sync.untracked,
        "failed": sync.failed,
    }
    print(", ".join(f"{count} {word}" for word, count in words.items() if count) or "no runs")
    return int(sync.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
