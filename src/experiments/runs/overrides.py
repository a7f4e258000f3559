"""The overrides that a run was started with, and those of a run that resumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.config.secrets import HIDDEN
from experiments.errors import ConfigError, Fault
from experiments.tracking import journal


def begun(folder: Path) -> journal.Event:
    """The start of the run in a folder.

    Raises:
        ConfigError: there is none.
    """
    if not (folder / journal.FILE).is_file():
        raise ConfigError(Fault(str(folder), f"there is no run to go on with (no {journal.FILE})"))
    events = journal.read(folder)
    if not events or events[0]["event"] != "start":
        raise ConfigError(Fault(str(folder), "its run ended before anything of it was written; start it anew"))
    return events[0]


def said(folder: Path) -> list[str]:
    """The overrides that a run was begun with, or gone on with the last time."""
    return [list(event["overrides"]) for event in journal.read(folder) if "overrides" in event][-1]


def key(override: str) -> str:
    """What an override says something of."""
    return override.lstrip("+~").split("=", 1)[0]


def hidden(overrides: Sequence[str]) -> set[str]:
    """The keys of kept overrides whose value was masked."""
    return {key(override) for override in overrides if HIDDEN in override}


def merge(begun_with: Sequence[str], given: Sequence[str]) -> list[str]:
    """The overrides of a run that goes on; what was masked when it began has to be given again.

    Raises:
        ConfigError: it is not.
    """
    again = {key(override): override for override in given if key(override) in hidden(begun_with)}
    if missing := sorted(hidden(begun_with) - set(again)):
        problem = "it holds a secret, which is not kept; give it again: "
        raise ConfigError(*(Fault(name, f"{problem}{name}=...") for name in missing))
    # Where it stood before: the order of what is swept over numbers the jobs.
    begun_with = [again.get(key(override), override) for override in begun_with]
    return [*begun_with, *(override for override in given if key(override) not in again)]
