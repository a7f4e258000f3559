"""What the tests of tracking share: journals written by hand, what a store holds, and tiny trainings as processes."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from experiments.tracking import client as process
from experiments.tracking import journal
from experiments.tracking.mlflow_store import Store
from tests.support import raw_journal

TINY = ["dataset=synthetic", "dataset.train=64", "dataset.valid=32", "figures=false"]
EXPERIMENTS = ("experiments", "experiments-sweeps")

Series = dict[str, list[tuple[int, float]]]


def begin(folder: Path, store: str | None, **changed: Any) -> journal.Journal:
    """A journal with the start of a run in it, still open."""
    written = journal.Journal(folder)
    details: dict[str, Any] = {
        "name": folder.name,
        "experiment": "experiments",
        "store": store,
        "tags": {"experiments.folder": str(folder), "model": "mlp"},
        "params": {"optim.lr": "0.1", "epochs": "3"},
        "note": "",
        "inputs": [{"name": "digits", "digest": "d-train", "source": "here", "profile": "{}", "context": "training"}],
        "parent": None,
    }
    written.start(**(details | changed))
    return written


def write_run(
    folder: Path, store: str | None, *, steps: int = 3, status: str | None = "FINISHED", **start: Any
) -> Path:
    """The folder of a run with some figures; left without an end where the status is None."""
    written = begin(folder, store, **start)
    for step in range(steps):
        written.metrics({"train/loss": 1 / (step + 3), "valid/loss": 0.1 + 0.2 * step}, step)
    written.end(status) if status else written.close()
    return folder


def disown(folder: Path, **owner: Any) -> None:
    """Let another host or process have begun or resumed a run last."""
    path = folder / journal.FILE
    here, there = journal.owner(), journal.owner() | owner
    text = path.read_text(encoding="utf-8")
    for name in owner:
        text = text.replace(f'"{name}": {_json(here[name])}', f'"{name}": {_json(there[name])}')
    path.write_text(text, encoding="utf-8")


def store_of(place: Path) -> str:
    return f"sqlite:///{place / 'mlflow.db'}"


def make_store(place: Path, name: str = "mlflow.db") -> None:
    """A real SQLite store without runs; a copy, since MLflow takes seconds to make one."""
    (place / name).write_bytes(_empty_database())


@functools.cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        Store(store_of(Path(folder)))
        with contextlib.closing(sqlite3.connect(Path(folder, "mlflow.db"))) as database:
            return database.serialize()


def runs(uri: str, names: Sequence[str] = EXPERIMENTS) -> list[Run]:
    """All runs of these experiments in a store."""
    client = MlflowClient(uri)
    found = [client.get_experiment_by_name(name) for name in names]
    return list(client.search_runs([one.experiment_id for one in found if one is not None]))


def run_of(uri: str, folder: Path) -> Run:
    """The only run that a store holds of a journal."""
    identity = raw_journal.read(folder)[0]["id"]
    (run,) = [run for run in runs(uri) if run.data.tags["experiments.journal"] == identity]
    return run


def brought(uri: str, folder: Path) -> Series:
    """Every point that a store holds of a run, by name, in the order of its steps."""
    client, run = MlflowClient(uri), run_of(uri, folder)
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: sorted((point.step, point.value) for point in points) for name, points in history.items()}


def written(folder: Path) -> Series:
    """Every figure of a run's journal."""
    series: Series = {}
    for event in raw_journal.read(folder):
        if event["event"] == "metrics":
            for name, value in event["values"].items():
                series.setdefault(name, []).append((event["step"], value))
    return {name: sorted(points) for name, points in series.items()}


def journals(place: Path) -> list[Path]:
    """The folders of all runs below a place."""
    return sorted(path.parent for path in place.rglob(journal.FILE))


def eventually(true: Callable[[], bool], seconds: float = 300) -> None:
    """Wait until something is so; long, since an uploader gives way to whatever else computes on the machine."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def kill_uploaders() -> None:
    """Kill the uploaders of this process, which else go on for a while after a store that is gone."""
    while process._uploaders:
        uploader = process._uploaders.popitem()[1]._process
        uploader.kill()
        uploader.communicate(timeout=30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Training:
    """A command line in a process group of its own, and what it printed.

    Args:
        place: where it works.
        arguments: of `python -m experiments`.
        env: more variables.
        module: another command.
    """

    def __init__(
        self, place: Path, *arguments: str, env: dict[str, str] | None = None, module: str = "experiments"
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", module, *arguments],
            cwd=place,
            env=os.environ | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""

    def until(self, beginning: str) -> None:
        """Read until a line begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if line.startswith(beginning):
                return
        raise AssertionError(f"it ended without {beginning!r}: {self.output}")

    def end(self, seconds: float = 120) -> int:
        """Wait for its end; the exit code."""
        rest, _ = self.process.communicate(timeout=seconds)
        self.output += rest
        return self.process.returncode

    def uploaders(self) -> list[int]:
        """The process ids of its uploaders, which are children of its own."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                words = stat.with_name("cmdline").read_bytes()
                if parent == self.process.pid and b"experiments.tracking.uploader" in words:
                    found.append(int(stat.parent.name))
        return found

    def kill(self, *, uploaders: bool = False) -> None:
        """Kill it, as kill -9 does; first its uploaders, where that is wanted."""
        for pid in self.uploaders() if uploaders else ():
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate(timeout=60)


@contextlib.contextmanager
def training(place: Path, *arguments: str, **options: Any) -> Iterator[Training]:
    """A training that does not outlive the test."""
    started = Training(place, *arguments, **options)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.kill(uploaders=True)


def _json(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
