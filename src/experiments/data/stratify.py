"""Split rows into training and validation, the same way every time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def stratified(y: NDArray[np.integer], *, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Return the training and validation rows, ascending, with the same share of each class.

    Args:
        y: class labels (n,).
        fraction: the share of each class for validation, at least one row of a class that has two.
        seed: of the choice.
    """
    generator = np.random.default_rng(seed)
    valid = []
    for label in np.unique(y):
        rows = generator.permutation(np.flatnonzero(y == label))
        take = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        valid.append(rows[:take])
    return _complement(np.concatenate(valid), len(y))


def plain(y: NDArray[Any], *, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Return the training and validation rows, ascending, chosen without regard to their targets."""
    rows = np.random.default_rng(seed).permutation(len(y))
    return _complement(rows[: min(max(round(fraction * len(y)), 1), len(y) - 1)], len(y))


def _complement(valid: Indices, size: int) -> tuple[Indices, Indices]:
    inside = np.zeros(size, dtype=bool)
    inside[valid] = True
    return np.flatnonzero(~inside), np.flatnonzero(inside)
