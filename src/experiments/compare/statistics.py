"""Whether two groups of values differ by more than chance: intervals and numbers of runs needed, all scipy's.

Pure functions over arrays. They assume what Student's t assumes: values (or their differences) that are roughly
normal, as means over a few seeds usually are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from experiments.compare.seeds import ROUNDING

LEVEL = 0.95
POWER = 0.8
MOST = 100  # larger numbers of runs are not computed

Array = np.ndarray
Sample = tuple[Sequence[float], Sequence[float], bool]  # the values of two groups, and whether these are pairs


@dataclass(frozen=True)
class Difference:
    """How much larger the second group's mean is than the first's.

    Args:
        spreads: the standard deviation of the pairs' differences, or that of each group.
        runs: of the smaller group.
        least: the size up to which a difference does not count.
        p_value: of the difference being no larger than that, two-sided.
        level: of the interval.
    """

    estimate: float
    low: float
    high: float
    spreads: tuple[float, ...]
    runs: int = 0
    least: float = 0.0
    p_value: float = 1.0
    level: float = LEVEL

    @property
    def decided(self) -> bool:
        """Return whether the whole interval is beyond `least`; without any spread, whether there are enough runs."""
        beyond = self.low > self.least or self.high < -self.least
        return beyond and (any(self.spreads) or self.p_value < 1 - self.level)

    @property
    def needed(self) -> int | None:
        """Return the fewest runs of each group that decide a true difference of this size with probability POWER.

        None where these are more than MOST, or where this size does not count.
        """
        beyond = abs(self.estimate) - self.least
        if beyond <= 0:
            return None
        if not any(self.spreads):
            return math.floor(math.log2(2 / (1 - self.level))) + 1  # the sign test's
        squares = np.square(self.spreads)
        n = np.arange(2, MOST + 1)
        # Welch's degrees of freedom; n - 1 for pairs. The test statistic follows the noncentral t.
        df = (n - 1) * (squares.sum() ** 2 / (squares**2).sum())
        shift = beyond / math.hypot(*self.spreads) * np.sqrt(n)
        limit = stats.t.ppf((1 + self.level) / 2, df)
        # For a large difference the lower tail underflows to nan; it is 0.
        power = np.nan_to_num(stats.nct.sf(limit, df, shift)) + np.nan_to_num(stats.nct.cdf(-limit, df, shift))
        enough = np.flatnonzero(power >= POWER)
        return int(n[enough[0]]) if len(enough) else None


def differences(samples: Sequence[Sample], least: float = 0.0) -> list[Difference]:
    """Compare several groups with the first one; all that is decided is right together with probability LEVEL.

    Each interval has the level at which Holm's procedure decides that group, so that verdict and interval agree.
    """
    single = [difference(one, two, paired=paired, least=least) for one, two, paired in samples]
    alphas = holm([each.p_value for each in single])
    return [
        difference(one, two, paired=paired, least=least, level=1 - alpha)
        for (one, two, paired), alpha in zip(samples, alphas, strict=True)
    ]


def holm(p_values: Sequence[float], alpha: float = 1 - LEVEL) -> list[float]:
    """Return the level that each of several tests is decided at, for `alpha` over all of them.

    S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979): of
    k tests the smallest p value is held against alpha/k, the next against alpha/(k-1), up to the first that is not
    below; those after it have its level.
    """
    levels, left = [alpha] * len(p_values), len(p_values)
    for index in np.argsort(p_values, kind="stable"):
        levels[index] = alpha / left
        left -= p_values[index] < levels[index]
    return levels


def difference(
    first: ArrayLike, second: ArrayLike, *, paired: bool, least: float = 0.0, level: float = LEVEL
) -> Difference:
    """Compare two groups of at least two values; paired ones are in the same order, and what a pair shares cancels."""
    one, other = np.asarray(first, float), np.asarray(second, float)
    rounding = ROUNDING * max(np.abs(one).max(), np.abs(other).max())  # what is smaller counts as zero
    samples = (other - one,) if paired else (one, other)
    mean, *deviations = other.mean() - one.mean(), *(sample.std(ddof=1) for sample in samples)
    estimate, *spreads = (float(value) if abs(value) >= rounding else 0.0 for value in (mean, *deviations))
    runs, low, high = min(len(one), len(other)), estimate, estimate
    p_value = 2 * 0.5**runs  # the sign test's, without any spread
    if any(spreads):
        nearer = other - math.copysign(least, estimate)
        low, high = map(float, interval(one, other, paired=paired, level=level))
        p_value = float(_test(one, nearer, paired=paired).pvalue)
    return Difference(
        estimate, low, high, tuple(spreads), runs, least, p_value if abs(estimate) > least else 1.0, level
    )


def interval(first: ArrayLike, second: ArrayLike, *, paired: bool, level: float = LEVEL) -> tuple[Array, Array]:
    """Return the interval of the difference along the last axis: Student's for pairs, else Welch's."""
    found = _test(first, second, paired=paired).confidence_interval(level)
    return found.low, found.high


def _test(first: ArrayLike, second: ArrayLike, *, paired: bool) -> Any:
    if paired:
        return stats.ttest_rel(second, first, axis=-1)
    with warnings.catch_warnings():
        # For a group of equal values, whose spread of zero is meant.
        warnings.filterwarnings("ignore", message="Precision loss", category=RuntimeWarning)
        return stats.ttest_ind(second, first, axis=-1, equal_var=False)
