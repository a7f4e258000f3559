"""Which process of a training on many devices this one is, by what torchrun says in the environment.

`torchrun --nproc-per-node N -m experiments ...` starts the same command N times. The first, rank 0, is the run: it has
the folder, the journal and the terminal; the others train their share of each batch, write nothing and say nothing.
"""

from __future__ import annotations

import os

from experiments.errors import ConfigError, Fault


def rank() -> int:
    """This process's number, from 0."""
    return _number("RANK", 0) if world() > 1 else 0


def world() -> int:
    """How many processes train together; 1 for a training of its own."""
    return _number("WORLD_SIZE", 1) if "RANK" in os.environ else 1


def local() -> int:
    """This process's number on its machine, from 0: the card that is its own."""
    return _number("LOCAL_RANK", 0) if world() > 1 else 0


def follows() -> bool:
    """Whether this is another process than the first."""
    return rank() > 0


def speaks() -> bool:
    """Whether a refusal is told here: by the first process of each machine, since all of them come to the same."""
    return local() == 0


def here() -> int:
    """How many of these processes are on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def require_one() -> None:
    """See that torchrun has not started a command that is no training.

    Raises:
        ConfigError: it has.
    """
    if world() > 1:
        raise ConfigError(Fault("torchrun", "many processes can train together; this command is the work of one"))


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))
