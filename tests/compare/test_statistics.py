"""Intervals cover the truth as often as they say, and the number of seeds that is named is enough."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from experiments.compare import statistics

TRUTH, SEEDS, TRIALS = 0.01, 10, 2000


def figures(
    trials: int, seeds: int, *, same_seeds: bool, difference: float = TRUTH, spread: float = 0.02
) -> tuple[np.ndarray, np.ndarray]:
    """Losses of two models; with the same seeds both share what a seed does, which is more than they differ by."""
    rng = np.random.default_rng(0)
    effect = rng.normal(0, 0.05, (trials, seeds))
    other = effect if same_seeds else rng.normal(0, 0.05, (trials, seeds))
    first = 0.3 + effect + rng.normal(0, 0.01, (trials, seeds))
    return first, 0.3 + difference + other + rng.normal(0, math.sqrt(spread**2 - 0.01**2), (trials, seeds))


def runs_needed(effect: float, *spreads: float) -> int | None:
    return statistics.Difference(effect, effect, effect, spreads).needed


def expected(rate: float, trials: int) -> tuple[float, float]:
    """What of so many trials a true rate lets one see, but for one time in a thousand."""
    low, high = stats.binom.interval(0.999, trials, rate)
    return low / trials, high / trials


@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_covers_the_true_difference_as_often_as_it_says(paired: bool) -> None:
    low, high = statistics.interval(*figures(TRIALS, SEEDS, same_seeds=paired), paired=paired)
    least, most = expected(statistics.LEVEL, TRIALS)
    assert least <= np.mean((low <= TRUTH) & (high >= TRUTH)) <= most


def test_intervals_that_take_the_same_seeds_for_different_ones_are_too_wide() -> None:
    """The check above can fail."""
    low, high = statistics.interval(*figures(TRIALS, SEEDS, same_seeds=True), paired=False)
    assert np.mean((low <= TRUTH) & (high >= TRUTH)) > expected(statistics.LEVEL, TRIALS)[1]


@pytest.mark.parametrize("paired", [True, False])
def test_a_single_comparison_is_one_of_many(paired: bool) -> None:
    first, second = figures(5, SEEDS, same_seeds=True)
    found = [statistics.difference(one, other, paired=paired) for one, other in zip(first, second, strict=True)]
    low, high = statistics.interval(first, second, paired=paired)
    assert [item.low for item in found] == pytest.approx(low, rel=1e-12)
    assert [item.high for item in found] == pytest.approx(high, rel=1e-12)
    assert [item.estimate for item in found] == pytest.approx((second - first).mean(axis=-1), rel=1e-12)


def test_pairs_show_a_difference_that_the_seeds_hide() -> None:
    first, second = figures(TRIALS, SEEDS, same_seeds=True, difference=0.03)
    assert np.mean(statistics.interval(first, second, paired=True)[0] > 0) > 0.9
    assert np.mean(statistics.interval(first, second, paired=False)[0] > 0) < 0.2


@pytest.mark.parametrize("effect", [0.4, 0.8, 1.5])
def test_so_many_pairs_as_are_needed_have_the_power_that_is_said_and_one_fewer_has_not(effect: float) -> None:
    needed = runs_needed(effect, 1.0)
    assert needed is not None
    for count, enough in ((needed, True), (needed - 1, False)):
        differences = np.random.default_rng(0).normal(effect, 1.0, (20_000, count))
        power = np.mean(stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05)
        low, high = expected(statistics.POWER, 20_000)
        assert power > low if enough else power < high


@pytest.mark.parametrize(("effect", "spreads"), [(0.6, (1.0, 1.0)), (1.2, (0.5, 1.5))])
def test_so_many_runs_each_as_are_needed_have_the_power_that_is_said(
    effect: float, spreads: tuple[float, float]
) -> None:
    needed = runs_needed(effect, *spreads)
    assert needed is not None
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, spreads[0], (20_000, needed)), rng.normal(effect, spreads[1], (20_000, needed))
    power = np.mean(stats.ttest_ind(first, second, axis=1, equal_var=False).pvalue < 0.05)
    assert abs(power - statistics.POWER) < 0.03


@pytest.mark.parametrize(
    ("effect", "pairs", "each"),
    [(0.5, 34, 64), (0.8, 15, 26), (1.0, 10, 17), (0.01, None, None), (50, 2, 2)],
)
def test_the_numbers_needed_are_those_of_the_published_tables(effect: float, pairs: int | None, each: int) -> None:
    """Cohen, Statistical Power Analysis for the Behavioral Sciences, two-sided at 5 %, power 80 %."""
    assert runs_needed(effect, 1.0) == pairs
    assert runs_needed(-effect, 1.0, 1.0) == each


def test_figures_that_are_all_the_same_are_no_evidence_of_a_difference_and_need_no_interval() -> None:
    found = statistics.difference([0.1, 0.3], [0.1, 0.3], paired=True)
    assert (found.low, found.high, found.decided, found.needed) == (0, 0, False, None)
    same = statistics.difference([0.25, 0.25], [0.5, 0.5], paired=False)
    assert (same.low, same.high) == (0.25, 0.25)


@pytest.mark.parametrize(("runs", "decided"), [(2, False), (5, False), (6, True)])
def test_equal_differences_decide_as_soon_as_chance_makes_them_alike_less_often_than_one_time_in_twenty(
    runs: int, decided: bool
) -> None:
    found = statistics.difference(
        [0.90, 0.91, 0.92, 0.93, 0.94, 0.95][:runs], [0.80, 0.81, 0.82, 0.83, 0.84, 0.85][:runs], paired=True
    )
    assert (found.spreads, found.decided, found.needed) == ((0.0,), decided, 6)
    assert (stats.binomtest(runs, runs).pvalue < 0.05) == decided


def test_what_only_the_order_of_additions_changes_is_no_difference() -> None:
    found = statistics.difference([0.4, 0.5], [0.4 + 1e-9, 0.5 + 2e-9], paired=True)
    assert (found.estimate, found.low, found.high, found.decided) == (0, 0, 0, False)


def test_a_group_without_spread_beside_one_that_has_it_is_compared_without_a_warning() -> None:
    found = statistics.difference([0.2, 0.2, 0.2], [0.5, 0.6, 0.55], paired=False)
    assert found.low < 0.35 < found.high
