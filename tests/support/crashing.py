"""Places inside a save and a journal's line where a process is killed; patched in, never in the product."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.tracking.journal import Journal
from experiments.training.checkpoint import Checkpoints
from experiments.training.step import EagerStep
from experiments.training.update import Update
from tests.support.forked import kill


@dataclass(frozen=True)
class Place:
    """A call that a save makes, and what becomes of the process there.

    Args:
        owner: has the function.
        name: the function's.
        call: the how-manieth call within one save, from 1.
        end: called with the real function and its arguments; does not return.
    """

    owner: Any
    name: str
    end: Callable[..., Any]
    call: int = 1


def before(real: Callable[..., Any], *args: Any, **given: Any) -> None:
    kill()


def after(real: Callable[..., Any], *args: Any, **given: Any) -> None:
    real(*args, **given)
    kill()


def half_a_file(real: Callable[..., Any], path: Path, content: bytes) -> None:
    real(path, content[: len(content) // 2])
    kill()


def half_a_line(real: Callable[..., Any], handle: int, line: bytes) -> None:
    real(handle, line[: len(line) // 2])
    kill()


IN_A_SAVE = {
    "before the temporary file is made": Place(tempfile, "mkstemp", before),
    "before it is written": Place(Path, "write_bytes", before),
    "in the middle of its content": Place(Path, "write_bytes", half_a_file),
    "before it is synced": Place(os, "fsync", before),
    "before it gets its name": Place(Path, "replace", before),
    "after it got its name": Place(Path, "replace", after),
    "before the folder is synced": Place(os, "fsync", before, call=2),
    "after the folder is synced": Place(os, "fsync", after, call=2),
    "before old ones are removed": Place(Checkpoints, "_files", before),
}
IN_A_LINE = {
    "before it is written": Place(os, "write", before),
    "in the middle of it": Place(os, "write", half_a_line),
    "before it is synced": Place(os, "fsync", before),
    "after it is synced": Place(os, "fsync", after),
}


def crash(number: int, place: Place, *, inside: tuple[Any, str]) -> None:
    """Kill this process at a place within the so-manieth call of a function."""
    owner, name = inside
    outer, inner = getattr(owner, name), getattr(place.owner, place.name)
    seen, calls, armed = [0], [0], [False]

    def counted(*args: Any, **given: Any) -> Any:
        seen[0] += 1
        armed[0], calls[0] = seen[0] == number, 0
        try:
            return outer(*args, **given)
        finally:
            armed[0] = False

    def ending(*args: Any, **given: Any) -> Any:
        calls[0] += armed[0]
        if armed[0] and calls[0] == place.call:
            return place.end(inner, *args, **given)
        return inner(*args, **given)

    setattr(owner, name, counted)
    setattr(place.owner, place.name, ending)


def crash_in_step(number: int) -> None:
    crash(number, Place(Update, "__call__", before), inside=(EagerStep, "__call__"))


def crash_in_save(number: int, place: Place) -> None:
    crash(number, place, inside=(Checkpoints, "_write"))


def crash_in_line(number: int, place: Place) -> None:
    crash(number, place, inside=(Journal, "_append"))
