"""Whether two groups of figures differ by more than chance: intervals and numbers needed, all of them scipy's.

Pure functions over arrays. What they assume is what Student's t assumes: figures (or their differences) that are
roughly normal, which means over a few seeds usually are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

LEVEL = 0.95
POWER = 0.8
MOST = 100  # more runs than this are "more than 100"

Array = np.ndarray


@dataclass(frozen=True)
class Difference:
    """How much larger the second group's mean is than the first's.

    Args:
        estimate: the difference.
        low: the lower end of its interval.
        high: the upper end.
        spreads: what it has to stand out from: the standard deviation of the pairs' differences, or of each group.
    """

    estimate: float
    low: float
    high: float
    spreads: tuple[float, ...]

    @property
    def paired(self) -> bool:
        """Whether each figure was compared with the one of the same seed."""
        return len(self.spreads) == 1

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    @property
    def needed(self) -> int | None:
        """How many runs of each group would show a difference of this size, if it is true; None: more than MOST."""
        return needed_pairs(self.estimate, *self.spreads) if self.paired else needed_each(self.estimate, *self.spreads)


def paired(first: ArrayLike, second: ArrayLike) -> Difference:
    """From at least two pairs, in the same order: what each pair has in common (its seed) cancels out."""
    differences = np.asarray(second, float) - np.asarray(first, float)
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    if spread == 0:
        return Difference(mean, mean, mean, (spread,))
    low, high = paired_interval(first, second)
    return Difference(mean, float(low), float(high), (spread,))


def unpaired(first: ArrayLike, second: ArrayLike) -> Difference:
    """From at least two figures each, of which none belong together, and whose spreads may differ."""
    one, other = np.asarray(first, float), np.asarray(second, float)
    mean = float(other.mean() - one.mean())
    spreads = float(one.std(ddof=1)), float(other.std(ddof=1))
    if not any(spreads):
        return Difference(mean, mean, mean, spreads)
    low, high = unpaired_interval(one, other)
    return Difference(mean, float(low), float(high), spreads)


def paired_interval(first: ArrayLike, second: ArrayLike) -> tuple[Array, Array]:
    """Student's, along the last axis."""
    differences = np.asarray(second, float) - np.asarray(first, float)
    middle, error = differences.mean(axis=-1), stats.sem(differences, axis=-1)
    low, high = stats.t.interval(LEVEL, differences.shape[-1] - 1, loc=middle, scale=error)
    return low, high


def unpaired_interval(first: ArrayLike, second: ArrayLike) -> tuple[Array, Array]:
    """Welch's, along the last axis."""
    with warnings.catch_warnings():
        # Of a group whose figures are all the same, whose spread of zero is meant.
        warnings.filterwarnings("ignore", message="Precision loss", category=RuntimeWarning)
        found = stats.ttest_ind(second, first, axis=-1, equal_var=False).confidence_interval(LEVEL)
    return found.low, found.high


def needed_pairs(difference: float, spread: float) -> int | None:
    """The fewest pairs that show a difference with probability POWER, given the spread of the differences (sd)."""
    return _fewest(lambda n: n - 1, difference, spread)


def needed_each(difference: float, first: float, second: float) -> int | None:
    """The fewest runs of each of two unpaired groups that do, given each group's spread (sd)."""
    freedom = (first**2 + second**2) ** 2 / (first**4 + second**4) if first or second else 2
    return _fewest(lambda n: freedom * (n - 1), difference, math.hypot(first, second))


def _fewest(freedom: Callable[[Array], Array], difference: float, spread: float) -> int | None:
    """By the noncentral t: what the test statistic follows where there is a difference."""
    if not difference:
        return None
    if not spread:
        return 2
    n = np.arange(2, MOST + 1)
    df, shift = freedom(n), abs(difference) / spread * np.sqrt(n)
    limit = stats.t.ppf((1 + LEVEL) / 2, df)
    # The lower tail underflows to nan where the difference is large: nothing is lost there.
    power = np.nan_to_num(stats.nct.sf(limit, df, shift)) + np.nan_to_num(stats.nct.cdf(-limit, df, shift))
    enough = np.flatnonzero(power >= POWER)
    return int(n[enough[0]]) if len(enough) else None
