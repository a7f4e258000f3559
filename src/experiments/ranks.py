"""Which process of a training on many devices this one is, by what torchrun says in the environment.

`torchrun --nproc-per-node N -m experiments ...` starts the same command N times. The first, rank 0, is the run: it has
the folder, the journal and the terminal; the others train their share of each batch, write nothing and say nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from experiments.errors import ConfigError, Fault

if TYPE_CHECKING:
    import torch

    from experiments.config.root import RootConfig


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


def require_one() -> None:
    """See that torchrun has not started a command that is no training.

    Raises:
        ConfigError: it has.
    """
    if world() > 1:
        raise ConfigError(Fault("torchrun", "many processes can train together; this command is the work of one"))


def faults(root: RootConfig, device: torch.device, cards: int) -> Iterator[Fault]:
    """Why a configuration cannot be trained by so many processes.

    Args:
        root: the configuration.
        device: what this process would compute on.
        cards: CUDA cards of this machine.
    """
    if world() == 1:
        return
    here = _number("LOCAL_WORLD_SIZE", 1)
    if root.device.index is not None:
        yield Fault("device.index", "torchrun gives each process a card of its own; leave it out, or start no torchrun")
    if device.type == "mps":
        yield Fault("device", "torch has no exchange between processes on mps; device=cpu has")
    if device.type == "cuda" and here > cards:
        problem = f"torchrun started {here} processes on this machine, which has {cards} cards"
        yield Fault("device", f"{problem}; --nproc-per-node {cards}, or device=cpu")
    if root.device.graph:
        problem = "a graph holds the work of one card, and in each step the processes exchange gradients"
        yield Fault("device.graph", f"{problem}; device.graph=false trains with many")
    if root.inspect.breakpoint:
        yield Fault("inspect.breakpoint", f"a debugger can stop in one process, and here are {world()}; leave torchrun")
    for key in ("batch_size", "valid_batch_size"):
        if (rows := root.loader[key]) < world():
            problem = f"{rows} rows cannot be shared among {world()} processes; {world()} are the least"
            yield Fault(f"loader.{key}", problem)


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))
