"""The process's rank in a training by many, as torchrun sets it in the environment.

`torchrun --nproc-per-node N -m experiments ...` starts the same command N times. The first, rank 0, is the run: it has
the folder, the journal and the terminal; the others train their share of each batch and write and print nothing.
"""

from __future__ import annotations

import os

from experiments.errors import ConfigError, Fault


def rank() -> int:
    """Return this process's number, from 0."""
    return _number("RANK", 0) if world() > 1 else 0


def world() -> int:
    """Return how many processes train together; 1 without torchrun."""
    return _number("WORLD_SIZE", 1) if "RANK" in os.environ else 1


def local() -> int:
    """Return this process's number on its machine, from 0, which is the index of its card."""
    return _number("LOCAL_RANK", 0) if world() > 1 else 0


def follows() -> bool:
    """Return whether this is another process than the first."""
    return rank() > 0


def speaks() -> bool:
    """Return whether this process prints refusals: the first of each machine does, since all have the same."""
    return local() == 0


def here() -> int:
    """Return how many of these processes are on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def require_one() -> None:
    """Raise a ConfigError where torchrun started a command that is not a training."""
    if world() > 1:
        raise ConfigError(Fault("torchrun", "many processes can train together; this command is the work of one"))


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))
