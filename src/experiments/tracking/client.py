"""The training side of delivery: starts the uploader once for this process, names runs to it, and waits at the end."""

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

from experiments import ranks
from experiments.config.store_uri import masked, store_uri
from experiments.errors import TrainingError
from experiments.tracking import delivered, journal
from experiments.tracking.pending import Pending

log = logging.getLogger(__name__)

POLL_SECONDS = 0.02
TELL_SECONDS = 5.0
FAILING_SECONDS = 10.0  # for a store that has answered with an error
REQUIRED_SECONDS = 60.0


class Followed:
    """Runs that the uploader of another process brings: a sweep's, whose jobs are trained by several.

    Args:
        uri: the store's address.
        output_root: the folder of everything that runs leave behind.
    """

    def __init__(self, uri: str, output_root: Path) -> None:
        self.uri, self.pending = uri, Pending(output_root)
        self._warned = False

    @property
    def alive(self) -> bool:
        """Whether it runs; it does as far as can be known here."""
        return True

    def follow(self, folder: Path) -> None:
        """Note the run, so that the uploader takes it up."""
        delivered.forget_error(folder)
        self.pending.add(folder)

    def require(self, folder: Path) -> None:
        """Wait until the store has taken this run's beginning; of one that goes on, that it does.

        Raises:
            TrainingError: it has not, within a bound.
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
        """Say once that the store does not take a run for now."""
        problem = "" if self._warned else delivered.state(folder).error
        if problem:
            self._warned = True
            log.warning(
                "MLflow at %s is unavailable: %s. Training continues; metrics are kept locally and uploaded later",
                masked(self.uri),
                problem,
            )


class UploaderProcess(Followed):
    """An uploader of this process's runs to one store, in a session of its own, so that Ctrl-C spares it.

    Args:
        uri: the store's address.
        output_root: the folder of everything that runs leave behind; it leaves no trace there before the first run.
    """

    def __init__(self, uri: str, output_root: Path) -> None:
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
        self._say({"uri": uri, "output_root": str(output_root), "parent": os.getpid()})

    def follow(self, folder: Path) -> None:
        """Bring the journal in this folder to the store."""
        super().follow(folder)
        self._say(str(folder))

    def _say(self, what: Any) -> None:
        assert self._process.stdin is not None
        stdin: IO[str] = self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it died: wait() tells, and the journal keeps everything
            stdin.write(json.dumps(what) + "\n")
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
        """Wait until these runs have arrived, for so long at most; those that have not.

        A store that has said that it does not work is given little time to come back.
        """
        began = told = time.monotonic()
        while True:
            alive = self.alive
            states = {folder: delivered.state(folder) for folder in folders}
            missing = [folder for folder, state in states.items() if not state.ended]
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
    key = (os.getpid(), uri, folder)
    if key not in _uploaders or not _uploaders[key].alive:
        _uploaders[key] = UploaderProcess(uri, folder)
    return _uploaders[key]


def warm_up(config: Any) -> None:
    """Start the uploader of a configuration that is not checked yet, where it looks like one that tracks."""
    if ranks.follows():
        return
    # Whatever is wrong with it is told by the check, which comes next.
    with contextlib.suppress(OmegaConfBaseException, AttributeError):
        if config.tracking.name == "mlflow" and isinstance(config.tracking.uri, str | None):
            uploader(config.tracking, str(config.output_root))


_uploaders: dict[tuple[int, str, Path], UploaderProcess] = {}
