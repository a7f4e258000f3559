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
from typing import IO, Any

from omegaconf.errors import OmegaConfBaseException

from experiments.tracking import delivery
from experiments.tracking.uri import store_uri

POLL_SECONDS = 0.02


class UploaderProcess:
    """An uploader of this process's runs to one store, in a session of its own, so that Ctrl-C spares it.

    Args:
        uri: the store's address.
        artifacts: the folder for artifacts of experiments made there.
        log: where it writes what goes wrong, from the first run on; before that it leaves no trace.
    """

    def __init__(self, uri: str, artifacts: Path, log: Path) -> None:
        settings = {"uri": uri, "artifacts": str(artifacts), "log": str(log), "parent": os.getpid()}
        self._process = subprocess.Popen(  # noqa: S603  # fixed words, no shell
            [sys.executable, "-m", "experiments.tracking.uploader", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        )

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


def uploader(tracking: Any, output_root: str) -> UploaderProcess:
    """This process's uploader to the configured store; started where there is none, or where it died.

    Best called before torch is imported, so that the imports of both processes overlap.

    Args:
        tracking: the configured tracking, with its `uri`.
        output_root: the folder of everything that runs leave behind.
    """
    uri, folder = store_uri(tracking.uri), Path(output_root).resolve()
    key = (os.getpid(), uri)
    if key not in _uploaders or not _uploaders[key].alive:
        _uploaders[key] = UploaderProcess(uri, folder / "artifacts", folder / "uploader.log")
    return _uploaders[key]


def warm_up(config: Any) -> None:
    """Start the uploader of a configuration that is not checked yet, where it looks like one that tracks."""
    # Whatever is wrong with it is told by the check, which comes next.
    with contextlib.suppress(OmegaConfBaseException, AttributeError):
        if config.tracking.name == "mlflow" and isinstance(config.tracking.uri, str | None):
            uploader(config.tracking, str(config.output_root))


_uploaders: dict[tuple[int, str], UploaderProcess] = {}
