"""A process forked off the tests' own: torch is there already, and it may be killed anywhere, for it ends by itself."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch


def no_fork() -> str:
    """Why tests cannot fork here; empty where they can."""
    if not hasattr(os, "fork"):
        return "they need fork, which this system has not"
    if torch.cuda.is_available():
        return "they need fork, which loses torch's threads for a card; CUDA_VISIBLE_DEVICES= pytest -m fork runs them"
    if torch.accelerator.is_available():
        return "they need fork, which loses torch's threads for a device"
    return ""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, negative where a signal ended it, and what it said."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Child:
    """A process that was forked off."""

    pid: int
    out: Path
    err: Path

    def wait(self, seconds: float = 60) -> Ended:
        """Its end; a process that does not end in time is killed, and the test fails."""
        until = time.monotonic() + seconds
        while (ended := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                pytest.fail(f"still there after {seconds} s: {self.out.read_text()}{self.err.read_text()}")
            time.sleep(0.002)
        said = self.out.read_text(encoding="utf-8"), self.err.read_text(encoding="utf-8")
        self.out.unlink()
        self.err.unlink()
        return Ended(os.waitstatus_to_exitcode(ended[1]), *said)


def fork(action: Callable[[], Any]) -> Child:
    """Do it in a process of its own, as a command would: its exit code is that of a SystemExit, else 0 or 1."""
    files = [tempfile.mkstemp() for _ in range(2)]
    child = [Path(name) for _, name in files]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that the tests' own process may have threads
        pid = os.fork()
    if pid == 0:
        try:
            _be_a_command([handle for handle, _ in files])
            code = _done(action)
        finally:
            os._exit(code)
    for handle, _ in files:
        os.close(handle)
    return Child(pid, *child)


def forked(action: Callable[[], Any], seconds: float = 60) -> Ended:
    """Do it in a process of its own, to its end."""
    return fork(action).wait(seconds)


def kill() -> None:
    """End this process as a kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _be_a_command(handles: list[int]) -> None:
    gc.freeze()  # what came along is shared as long as it is not touched
    for handle, number in zip(handles, (1, 2), strict=True):
        os.dup2(handle, number)
        os.close(handle)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0)  # the test's own time limit
    logging.getLogger().handlers.clear()


def _done(action: Callable[[], Any]) -> int:
    code = 0
    try:
        action()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001  # nothing gets back into the tests
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code
