"""Errors that are shown to a user as one message, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


class UserError(Exception):
    """Something a user can fix; the message says what, where, and what was expected."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a configuration."""

    key: str  # as on the command line: `optim.lr`
    problem: str  # with the value, what was expected, and the remedy

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"


class ConfigError(UserError, ValueError):
    """A configuration that cannot be run, with all its faults."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        lines = [str(fault) for fault in faults]
        text = lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} faults:", *lines])
        super().__init__(text)


class RegistrationError(UserError, ValueError):
    """A component that cannot be registered: its name is taken, or its signature cannot serve as a schema."""


class DataError(UserError):
    """A dataset that is not available or not valid."""


class CheckpointError(UserError):
    """A run that cannot be resumed: its checkpoints are damaged or of another training."""


class TrainingError(UserError):
    """A training that had to stop; its metrics until then are kept."""


def suggestion(name: object, names: Iterable[str]) -> str:
    """Return the end of an error message: `; did you mean 'x'?` for the nearest of `names`, and all of them."""
    known = sorted(names)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return f"{hint} available: {', '.join(known) or 'nothing'}"
