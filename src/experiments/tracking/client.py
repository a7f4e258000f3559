"""The training side of the upload: start the uploader once for this process, name runs to it, and wait at the end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from omegaconf.errors import OmegaConfBaseException

from experiments import live, ranks
from experiments.config.store_uri import UNUSED, masked, store_uri
from experiments.errors import TrainingError
from experiments.tracking import delivered, journal, system_metrics
from experiments.tracking.pending import Pending

log = logging.getLogger(__name__)

POLL_SECONDS = 0.02
TELL_SECONDS = 5.0
FAILING_SECONDS = 10.0  # for a store that has answered with an error
REQUIRED_SECONDS = 60.0


class Followed:
    """Runs that another process's uploader uploads: jobs of a sweep, which several processes train."""

    def __init__(self, uri: str, output_root: Path) -> None:
        self.uri, self.pending = uri, Pending(output_root)
        self._warned = False

    @property
    def alive(self) -> bool:
        """Return whether it runs, which cannot be seen from here."""
        return True

    def follow(self, folder: Path) -> None:
        """Mark the run as undelivered, so that the uploader follows it."""
        delivered.forget_error(folder)
        self.pending.add(folder)

    def require(self, folder: Path) -> None:
        """Wait until the store has this run's start or resumption.

        Raises:
            TrainingError: the store refused it, or did not answer in time.
        """
        deadline = time.monotonic() + REQUIRED_SECONDS
        size = (folder / journal.FILE).stat().st_size
        while (state := delivered.state(folder)).store != masked(self.uri) or state.offset < size:
            problem = state.error
            if problem or not self.alive or time.monotonic() > deadline:
                reason = problem or "it does not answer"
                raise TrainingError(f"tracking.required: {masked(self.uri)} does not take the run: {reason}")
            time.sleep(POLL_SECONDS)

    def warn_if_failing(self, folder: Path) -> None:
        """Warn once that the store is unavailable."""
        problem = "" if self._warned else delivered.state(folder).error
        if problem:
            self._warned = True
            log.warning(
                "MLflow at %s is unavailable: %s. Training continues; metrics are kept locally and uploaded later",
                masked(self.uri),
                problem,
            )


class UploaderProcess(Followed):
    """An uploader of this process's runs to one store, in a separate session, so that Ctrl-C does not end it.

    The `settings` are for the uploader, from the tracking configuration.
    """

    def __init__(self, uri: str, output_root: Path, **settings: Any) -> None:
        super().__init__(uri, output_root)
        self._process = subprocess.Popen(  # fixed words, no shell
            [sys.executable, "-m", "experiments.tracking.uploader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        )
        # Not as arguments, which everybody on the machine can read: an address may hold a password.
        self._say({"uri": uri, "output_root": str(output_root), "parent": os.getpid(), **settings})

    def follow(self, folder: Path) -> None:
        """Upload the journal in this folder to the store."""
        super().follow(folder)
        self._say(str(folder))

    def _say(self, what: Any) -> None:
        assert self._process.stdin is not None
        stdin: IO[str] = self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it died: wait() reports it, and the journal keeps everything
            stdin.write(json.dumps(what) + "\n")
            stdin.flush()

    def close(self) -> None:
        """Name no more runs, and wait until the uploader has finished."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    @property
    def alive(self) -> bool:
        """Return whether it still runs."""
        return self._process.poll() is None

    def wait(self, folders: Sequence[Path], seconds: float) -> list[Path]:
        """Wait until these runs have arrived, at most so many seconds. Return those that have not.

        A store that has answered with an error gets little time to recover.
        """
        with live.phase("uploading to MLflow", len(folders)) as shown:
            return self._wait(folders, seconds, shown)

    def _wait(self, folders: Sequence[Path], seconds: float, shown: live.Phase) -> list[Path]:
        began = told = time.monotonic()
        while True:
            alive = self.alive
            states = {folder: delivered.state(folder) for folder in folders}
            missing = [folder for folder in folders if not delivered.arrived(folder)]
            shown.at(len(folders) - len(missing))
            waited = time.monotonic() - began
            refused = all(states[folder].final for folder in missing)
            late = waited > (min(seconds, FAILING_SECONDS) if any(s.error for s in states.values()) else seconds)
            if refused or not alive or late:  # also where nothing is missing
                return missing
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                log.info("uploading %d runs to MLflow (Ctrl-C: upload later with experiments.sync)", len(missing))
            time.sleep(POLL_SECONDS)


def close_all() -> None:
    """Wait until every uploader of this process has finished."""
    while _uploaders:
        _uploaders.popitem()[1].close()


def uploader(tracking: Any, output_root: str) -> UploaderProcess:
    """Return this process's uploader to the configured store; start it if there is none, or it died.

    Call it before torch is imported, so that the imports of both processes overlap.
    """
    uri, folder = store_uri(tracking.uri), Path(output_root).resolve()
    key = (os.getpid(), uri, folder)
    if key not in _uploaders or not _uploaders[key].alive:
        sampled = system_metrics.enabled(tracking.system_metrics)
        _uploaders[key] = UploaderProcess(uri, folder, system_metrics=sampled)
        for name in filter(os.environ.get, UNUSED):
            log.warning(
                "%s is set and not used: each training is an MLflow run of its own (tracking.experiment=...)", name
            )
    return _uploaders[key]


def warm_up(config: Any) -> None:
    """Start the uploader of a configuration that is not checked yet, if it seems to be tracked."""
    if ranks.follows():
        return
    # Whatever is wrong with it, the check reports next.
    with contextlib.suppress(OmegaConfBaseException, AttributeError):
        if config.tracking.name == "mlflow" and isinstance(config.tracking.uri, str | None):
            uploader(config.tracking, str(config.output_root))


# Of the module: one uploader serves all runs of a process, and starts before there is a run. A fork has none.
_uploaders: dict[tuple[int, str, Path], UploaderProcess] = {}
