"""Three independent random streams out of one seed, so that one can be changed and the others stay.

init: the weights. data_order: which row comes when. noise: dropout and augmentation.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Seeds:
    """One number for each random stream, 0 .. 2**32-1."""

    init: int
    data_order: int
    noise: int


def derive(seed: int, own: Mapping[str, int | None]) -> Seeds:
    """The three streams of `seed`, each replaced by the number that `own` gives for it."""
    derived = np.random.SeedSequence(seed).generate_state(3).tolist()
    names = ("init", "data_order", "noise")
    given = [own.get(name) for name in names]
    return Seeds(*(mine if mine is not None else other for mine, other in zip(given, derived, strict=True)))


def seed_noise(seed: int) -> None:
    """Start the noise stream: torch's global generators, and those of numpy and Python for a user's own code."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # the global one is what a dataset's own code draws from
    random.seed(seed)


def noise_state(device: torch.device) -> dict[str, Any]:
    """Where the noise stream is, as tensors and plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # as above
    version, state, following = random.getstate()
    found: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(state), following],
    }
    if device.type == "cuda":
        found["device"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["device"] = torch.mps.get_rng_state()
    return found


def same_noise(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two such states are the same, but for an accelerator's own."""
    (name, keys, *rest), (other_name, other_keys, *other_rest) = one["numpy"], other["numpy"]
    return (
        torch.equal(one["torch"], other["torch"])
        and one["python"] == other["python"]
        and torch.equal(keys, other_keys)
        and [name, *rest] == [other_name, *other_rest]
    )


def restore_noise(state: Mapping[str, Any], device: torch.device) -> None:
    """Put the noise stream back where `noise_state` found it."""
    torch.set_rng_state(state["torch"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # as above
    version, words, following = state["python"]
    random.setstate((version, tuple(words), following))
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["device"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state["device"])


@contextlib.contextmanager
def noise_kept() -> Iterator[None]:
    """Put the noise stream back where it was; an accelerator's own is left where it is."""
    cpu = torch.device("cpu")
    state = noise_state(cpu)
    try:
        yield
    finally:
        restore_noise(state, cpu)


@contextlib.contextmanager
def fixed_noise() -> Iterator[None]:
    """Whatever is drawn within is the same each time, whatever came before, and changes nothing that comes after."""
    with noise_kept():
        seed_noise(0)
        yield


def of_process(seed: int, rank: int) -> int:
    """A stream's number in one of several processes that draw from it, each on its own; the first has the stream's."""
    return seed if rank == 0 else int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])


def epoch_seed(seed: int, epoch: int) -> int:
    """The number that one epoch's order is drawn with."""
    return 1_000_003 * seed + epoch


def epoch_order(size: int, seed: int, epoch: int) -> torch.Tensor:
    """The rows' order in one epoch, int64 (size,): a pure function of its arguments."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(epoch_seed(seed, epoch)))
