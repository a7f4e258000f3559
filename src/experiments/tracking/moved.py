"""A project that was moved or copied with its MLflow database, which keeps the folders of files as absolute addresses.

They are corrected in the database, so that earlier runs show their files, and new ones are not copied to the old place.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


def follow(database: Path, artifacts: Path) -> None:
    """Have `artifacts` replace the folder of the same name that runs' files had before, if it is gone or was copied."""
    here = artifacts.resolve().as_uri()
    ours = re.escape("/".join(here.split("/")[-2:]))
    # A database that cannot be read or is in use is MLflow's to report.
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(database)) as store, store:
        for (old,) in store.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall():
            if old == here or not re.fullmatch(f"file:.*/{ours}", str(old)):
                continue
            runs = store.execute("SELECT run_uuid FROM runs WHERE instr(artifact_uri, ?) = 1", (old + "/",)).fetchall()
            if Path(url2pathname(urlsplit(old).path)).is_dir() and not any(
                (artifacts / run).is_dir() for (run,) in runs
            ):
                continue  # another project's, whose runs are in this database too
            store.execute("UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (here, old))
            change = "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE instr(artifact_uri, ?) = 1"
            store.execute(change, (here, len(old) + 1, old + "/"))
