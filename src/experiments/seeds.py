"""Three independent random streams out of one seed, so that one can be changed and the others stay.

init: the weights. data_order: which row comes when. noise: dropout and augmentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


def epoch_order(size: int, seed: int, epoch: int) -> torch.Tensor:
    """The rows' order in one epoch, int64 (size,): a pure function of its arguments."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(1_000_003 * seed + epoch))
