"""`python -m experiments.sync [FOLDER ...]`: bring runs to MLflow that are not there yet; twice changes nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.tracking import delivery, journal
from experiments.tracking.uri import masked, store_uri


def main(arguments: list[str] | None = None) -> int:
    """Deliver every journal below the folders; 1 where one could not be."""
    parser = argparse.ArgumentParser(prog="python -m experiments.sync", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[Path("outputs")], metavar="FOLDER")
    parser.add_argument("--uri", help="the store; default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db here")
    given = parser.parse_args(arguments)
    found = sorted(path.parent for folder in given.folders for path in folder.rglob(journal.FILE))
    waiting = [folder for folder in found if not delivery.state(folder)["complete"]]
    uri = store_uri(given.uri)
    failed = 0
    if waiting:
        from experiments.tracking.store import Store

        try:
            store = Store(uri, Path("outputs").resolve() / "artifacts")
        except Exception as error:  # noqa: BLE001  # whatever the store raises is told in one line
            print(f"error: {masked(uri)}: {error}", file=sys.stderr)
            return 1
        failed = sum(not _deliver(folder, store) for folder in waiting)
    print(f"{len(found)} runs, {len(waiting) - failed} brought to {masked(uri)}, {failed} not")
    return int(failed > 0)


def _deliver(folder: Path, store: object) -> bool:
    run = delivery.Delivery(folder.resolve(), store)  # type: ignore[arg-type]  # a Store, whose module imports MLflow
    try:
        if run.advance():
            run.finish()
    except Exception as error:  # noqa: BLE001  # as above
        print(f"{folder}: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
