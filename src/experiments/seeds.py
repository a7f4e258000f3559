"""Derive three independent random streams from one seed, so that each can be changed alone.

init: the weights. data_order: the rows' order. noise: dropout and augmentation.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Seeds:
    """One number for each random stream, 0 .. 2**32-1."""

    init: int
    data_order: int
    noise: int


def derive(seed: int, own: Mapping[str, int | None]) -> Seeds:
    """Return the three streams of `seed`, each replaced by its number in `own`, if there is one."""
    derived = np.random.SeedSequence(seed).generate_state(3).tolist()
    given = {name: number for name, number in own.items() if number is not None}
    return replace(Seeds(*derived), **given)


def seed_noise(seed: int) -> None:
    """Seed the noise stream: torch's global generators, and those of numpy and Python for a user's code."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # the global generator, which a user's dataset may use
    random.seed(seed)


def noise_state(device: torch.device) -> dict[str, Any]:
    """Return the noise stream's state as tensors and plain values."""
    name, keys, position, has_gauss, gauss = np.random.get_state()  # as above
    version, words, following = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": [version, list(words), following],
    }
    if device.type == "cuda":
        state["device"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["device"] = torch.mps.get_rng_state()
    return state


def same_noise(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two states of one device are equal."""
    (name, keys, *rest), (other_name, other_keys, *other_rest) = one["numpy"], other["numpy"]
    return (
        torch.equal(one["torch"], other["torch"])
        and one["python"] == other["python"]
        and torch.equal(keys, other_keys)
        and [name, *rest] == [other_name, *other_rest]
        and ("device" not in one or torch.equal(one["device"], other["device"]))
    )


def restore_noise(state: Mapping[str, Any], device: torch.device) -> None:
    """Restore a `noise_state`."""
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
def noise_kept(device: torch.device = CPU) -> Iterator[None]:
    """Restore the noise stream at the end; an accelerator's where its device is given."""
    state = noise_state(device)
    try:
        yield
    finally:
        restore_noise(state, device)


@contextlib.contextmanager
def fixed_noise() -> Iterator[None]:
    """Seed the noise stream with 0 inside and restore it at the end."""
    with noise_kept():
        seed_noise(0)
        yield


def of_process(seed: int, rank: int) -> int:
    """Return a stream's number in one of several processes; rank 0 has the stream's own."""
    return seed if rank == 0 else int(np.random.SeedSequence([seed, rank]).generate_state(1)[0])


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of one epoch's order."""
    return 1_000_003 * seed + epoch


def epoch_order(size: int, seed: int, epoch: int) -> torch.Tensor:
    """Return the rows' order in one epoch, int64 (size,): a pure function of its arguments."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(epoch_seed(seed, epoch)))
