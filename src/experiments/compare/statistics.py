"""Whether two groups of values differ by more than chance: intervals and numbers of runs needed, all scipy's.

Pure functions over arrays. They assume what Student's t assumes: values (or their differences) that are roughly
normal, as means over a few seeds usually are.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from experiments.compare.seeds import ROUNDING

LEVEL = 0.95
POWER = 0.8
MOST = 100  # larger numbers of runs are not computed
ALIKE = 6  # so many equal differences are chance less often than one time in twenty (sign test)

Array = np.ndarray


@dataclass(frozen=True)
class Difference:
    """How much larger the second group's mean is than the first's.

    Args:
        spreads: the standard deviation of the pairs' differences, or that of each group.
        runs: of the smaller group.
    """

    estimate: float
    low: float
    high: float
    spreads: tuple[float, ...]
    runs: int = 0

    @property
    def decided(self) -> bool:
        """Return whether the interval excludes zero; without any spread, whether there are enough runs."""
        beyond_zero = self.estimate != 0 and (self.low > 0 or self.high < 0)
        return beyond_zero and (any(self.spreads) or self.runs >= ALIKE)

    @property
    def needed(self) -> int | None:
        """Return the fewest runs of each group that show a true difference of this size with probability POWER.

        None where these are more than MOST.
        """
        if not self.estimate:
            return None
        if not any(self.spreads):
            return ALIKE
        squares = np.square(self.spreads)
        n = np.arange(2, MOST + 1)
        # Welch's degrees of freedom; n - 1 for pairs. The test statistic follows the noncentral t.
        df = (n - 1) * (squares.sum() ** 2 / (squares**2).sum())
        shift = abs(self.estimate) / math.hypot(*self.spreads) * np.sqrt(n)
        limit = stats.t.ppf((1 + LEVEL) / 2, df)
        # For a large difference the lower tail underflows to nan; it is 0.
        power = np.nan_to_num(stats.nct.sf(limit, df, shift)) + np.nan_to_num(stats.nct.cdf(-limit, df, shift))
        enough = np.flatnonzero(power >= POWER)
        return int(n[enough[0]]) if len(enough) else None


def difference(first: ArrayLike, second: ArrayLike, *, paired: bool) -> Difference:
    """Compare two groups of at least two values; paired ones are in the same order, and what a pair shares cancels."""
    one, other = np.asarray(first, float), np.asarray(second, float)
    least = ROUNDING * max(np.abs(one).max(), np.abs(other).max())  # what is smaller counts as zero
    samples = (other - one,) if paired else (one, other)
    mean, *deviations = other.mean() - one.mean(), *(sample.std(ddof=1) for sample in samples)
    estimate, *spreads = (float(value) if abs(value) >= least else 0.0 for value in (mean, *deviations))
    low, high = interval(one, other, paired=paired) if any(spreads) else (estimate, estimate)
    return Difference(estimate, float(low), float(high), tuple(spreads), min(len(one), len(other)))


def interval(first: ArrayLike, second: ArrayLike, *, paired: bool) -> tuple[Array, Array]:
    """Return the interval of the difference along the last axis: Student's for pairs, else Welch's."""
    if paired:
        differences = np.asarray(second, float) - np.asarray(first, float)
        middle, error = differences.mean(axis=-1), stats.sem(differences, axis=-1)
        low, high = stats.t.interval(LEVEL, differences.shape[-1] - 1, loc=middle, scale=error)
        return low, high
    with warnings.catch_warnings():
        # For a group of equal values, whose spread of zero is meant.
        warnings.filterwarnings("ignore", message="Precision loss", category=RuntimeWarning)
        found = stats.ttest_ind(second, first, axis=-1, equal_var=False).confidence_interval(LEVEL)
    return found.low, found.high
