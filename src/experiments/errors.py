"""Errors that a user reads as one message, without a traceback."""

from __future__ import annotations

import contextlib
import difflib
import logging
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# Names that elsewhere mean what is called otherwise here
SYNONYMS = {"batch": "step", "iteration": "step", "train": "fit", "labels": "classes", "regression": "reals"}


class UserError(Exception):
    """An error that the user can fix; the message names what was given, where, and what was expected."""


@dataclass(frozen=True)
class Fault:
    """One fault of a configuration.

    Args:
        key: its place, as written on the command line (`optim.lr`).
        problem: what is wrong, with the value and what was expected.
    """

    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"


class ConfigError(UserError, ValueError):
    """A configuration that cannot be run; holds every fault."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        lines = [str(fault) for fault in faults]
        text = lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} faults:", *lines])
        super().__init__(text)


class RegistrationError(UserError, ValueError):
    """A component that cannot be registered: its name is taken, or its signature cannot serve as a schema."""


class DataError(UserError):
    """A data set that is unavailable or has other content than expected."""


class CheckpointError(UserError):
    """A run that cannot resume: its checkpoints are damaged, foreign, or of another training."""


class TrainingError(UserError):
    """A training that had to stop; its metrics until then are kept."""


def suggestion(name: object, names: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """Return the end of an error message: `; did you mean 'x'?` with the nearest of `names`, then all of them.

    Args:
        name: what was given.
        names: what is known in its place.
        elsewhere: the places where it is known, which are meant before a similar name.
    """
    known = sorted(names)
    near = list(elsewhere) or nearest(name, known)
    hint = f"; did you mean {' or '.join(map(repr, near[:3]))}?" if near else ";"
    return f"{hint} available: {', '.join(known) or 'nothing'}"


def nearest(name: object, known: Sequence[str]) -> list[str]:
    """Return the names that a text abbreviates, by number, beginning or part (`5` for `05_optim`), else the nearest."""
    text = str(name).lower()
    parts = {each: re.split("[_-]", each.lower()) for each in known if text}
    here = [SYNONYMS.get(part, part) for part in re.split("[_-]", text)]
    return (
        [each for each in parts if text.isdecimal() and re.match(rf"0*{int(text)}(?!\d)", each)]
        or [each for each in parts if each.lower().startswith(text)]
        or [each for each in parts if text in parts[each] or here == parts[each]]
        or difflib.get_close_matches(text, known, n=1, cutoff=0.5)
    )


@contextlib.contextmanager
def warned(log: logging.Logger, what: str) -> Iterator[None]:
    """Turn any error into a warning that something is missing, where all else is kept."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # a model, a dataset or a library may raise any
        log.warning("no %s: %s: %s; the run is kept", what, type(error).__name__, first_line(error))


def first_line(error: BaseException | str) -> str:
    """Return the first line of an error's message that has any text; the error's type if there is none.

    The message of a KeyError is no more than the key.
    """
    text = f"KeyError: {error}" if isinstance(error, KeyError) else str(error)
    lines = (line.strip() for line in text.splitlines())
    return next(filter(None, lines), "" if isinstance(error, str) else type(error).__name__)


def command(name: str) -> str:
    """Return the command `python -m experiments.NAME` as the terminal can run it.

    Where `python` is another interpreter, since the environment is not active, this one's path takes its place.
    """
    found, here = shutil.which("python"), Path(sys.executable)
    if found is not None and Path(found).parent == here.parent:
        return f"python -m experiments.{name}"
    if Path.cwd() in here.parents:
        here = here.relative_to(Path.cwd())
    return f"{shlex.quote(str(here))} -m experiments.{name}"
