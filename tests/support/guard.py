"""A test that starts a process without being marked so fails where it does."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# Python's audit events.
STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}

_watched = False


@contextmanager
def no_process() -> Iterator[None]:
    """Whatever starts a process within is a failure."""
    with _watching(True):
        yield


@contextmanager
def any_process() -> Iterator[None]:
    """Whatever starts a process within is none of the test's doing."""
    with _watching(False):
        yield


@contextmanager
def _watching(watched: bool) -> Iterator[None]:
    global _watched
    _install()
    before, _watched = _watched, watched
    try:
        yield
    finally:
        _watched = before


@functools.cache
def _install() -> None:
    sys.addaudithook(_heard)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched and event in STARTS:
        what = arguments[1] if event == "subprocess.Popen" else ""
        if list(what[:1]) == ["git"]:  # every run asks it, in milliseconds
            return
        pytest.fail(f"{event} {what}: this test starts a process; mark it with pytest.mark.process")
