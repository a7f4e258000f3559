"""The training side of delivery: starts the uploader once for this process, names runs to it, and waits at the end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from experiments.tracking import delivery

POLL_SECONDS = 0.02


class UploaderProcess:
    """An uploader of this process's runs to one store, in a session of its own, so that Ctrl-C spares it.

    Args:
        uri: the store's address.
        artifacts: the folder for artifacts of experiments made there.
        log: where it writes what goes wrong.
    """

    def __init__(self, uri: str, artifacts: Path, log: Path) -> None:
        settings = json.dumps({"uri": uri, "artifacts": str(artifacts), "parent": os.getpid()})
        with log.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603  # fixed words, no shell
                [sys.executable, "-m", "experiments.tracking.uploader", settings],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                text=True,
                start_new_session=True,
                env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            )
        self.log = log

    def follow(self, folder: Path) -> None:
        """Bring the journal in this folder to the store."""
        assert self._process.stdin is not None
        stdin: IO[str] = self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it died: wait() tells, and the journal keeps everything
            stdin.write(json.dumps(str(folder)) + "\n")
            stdin.flush()

    def close(self) -> None:
        """Name no more runs, and wait until the uploader has done everything and gone."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait(self, folders: Sequence[Path], seconds: float) -> list[Path]:
        """Wait until these runs have arrived, for so long at most; those that have not."""
        deadline = time.monotonic() + seconds
        missing = list(folders)
        while missing:
            alive = self.alive
            missing = [folder for folder in missing if not delivery.state(folder)["ended"]]
            refused = all(delivery.state(folder).get("final") for folder in missing)
            if refused or not alive or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        return missing


def close_all() -> None:
    """Wait until every uploader of this process has done everything and gone."""
    while _uploaders:
        _uploaders.popitem()[1].close()


_uploaders: dict[tuple[int, str], UploaderProcess] = {}


def uploader(uri: str, artifacts: Path, log: Path) -> UploaderProcess:
    """This process's uploader to a store; started where there is none, or where it died."""
    key = (os.getpid(), uri)
    if key not in _uploaders or not _uploaders[key].alive:
        _uploaders[key] = UploaderProcess(uri, artifacts, log)
    return _uploaders[key]
