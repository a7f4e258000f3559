"""The SQLite database of an MLflow store, created whole and opened by one process at a time."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow import MlflowClient

from experiments.config.store_uri import masked
from experiments.errors import command, first_line
from experiments.tracking import moved


class StoreError(Exception):
    """The store refuses; `final` if a further attempt cannot succeed."""

    def __init__(self, message: str, *, final: bool = True) -> None:
        super().__init__(message)
        self.final = final


def opened(uri: str, database: Path, artifacts: Path | None) -> MlflowClient:
    """Return a client of the store in this database; create and migrate it, and follow a project that was moved.

    Raises:
        StoreError: it cannot be opened.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Processes that make or migrate the same database at once break it for good: one at a time.
        with FileLock(f"{database}.lock"):
            _make(database)
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
            if artifacts is not None:
                moved.follow(database, artifacts)
            return client
    except Exception as error:
        raise _unopened(uri, error) from error


def _make(database: Path) -> None:
    """Create a missing SQLite database, with all its tables or not at all.

    MLflow creates them one by one, and cannot use or repair the database if it is killed in between.
    """
    with contextlib.closing(sqlite3.connect(database)) as target:
        if target.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            return
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            made = Path(folder, "mlflow.db")
            MlflowClient(f"sqlite:///{made}").search_experiments(max_results=1)
            with contextlib.closing(sqlite3.connect(made)) as source:
                source.backup(target)  # one transaction


def _unopened(uri: str, error: Exception) -> StoreError:
    """Return why a database cannot be opened, and the remedy."""
    reason = first_line(error)
    if "database schema" in reason:
        return StoreError(
            f"{masked(uri)} was made by another version of MLflow than the one here, {mlflow.__version__}; upgrade "
            "whichever is older: MLflow (pip install --upgrade mlflow), or a copy of the database (mlflow db upgrade). "
            f"MLflow says: {reason}"
        )
    if "already exists" in reason or "duplicate column" in reason:
        return StoreError(
            f"{masked(uri)} cannot be opened: whatever made or upgraded it was stopped half-way ({reason}); move the "
            f"file away, and `{command('sync')} --again` makes a new one of the journals"
        )
    return StoreError(f"{masked(uri)} cannot be opened: {reason}", final="database is locked" not in reason)
