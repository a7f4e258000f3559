"""The overrides that a run was started with, and those of a run that resumes."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.config.secrets import HIDDEN
from experiments.errors import ConfigError, Fault


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
