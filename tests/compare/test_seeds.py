"""Verdicts on random groups: one sign everywhere, better and worse only where that is decided, the same both ways."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from scipy import stats

from experiments.compare import seeds
from experiments.compare.comparison import Comparison, Mode, Run
from experiments.compare.seeds import Group
from experiments.config.language import Language
from experiments.runs.job_record import JobRecord
from experiments.tracking.record import FINISHED, Start

METRIC = "valid/top_k"
WORDS = {"en": ("better", "worse", "undecided"), "uz": ("yaxshiroq", "yomonroq", "aniq emas")}
TEXT = re.compile(r"([\w' ]+): ([+-])([\d.e-]+) ")
MODES: tuple[Mode, ...] = ("min", "max")
CASES = [(number, mode) for number in range(60) for mode in MODES]


def group(label: str, values: np.ndarray, mode: Mode, first_seed: int = 0) -> Group:
    """A group with these values, one run for each seed."""
    runs = []
    for seed, value in enumerate(values, first_seed):
        start = Start(id=f"{label}{seed}", params={"seed": str(seed)})
        metrics = {METRIC: {0: float(value)}}
        job = JobRecord(folder=Path(label), start=start, status=FINISHED, job=f"{label}{seed}", metrics=metrics)
        runs.append(Run(job, f"{label}, seed={seed}", label, {}, {METRIC: mode}))
    return Group(label, runs, 0)


def random_groups(number: int, mode: Mode) -> tuple[Group, Group]:
    """Two groups: few or many seeds, the same or others, a large or a small difference, either way, or none."""
    rng = np.random.default_rng(number)
    counts = rng.integers(2, 9, 2)
    if number % 3:
        counts[1] = counts[0]
    shift = rng.choice([-0.1, -0.01, 0.0, 0.01, 0.1])
    one, other = (rng.normal(0.5 + add, 0.02, count) for add, count in zip((0, shift), counts, strict=True))
    return group("a", one, mode), group("b", other, mode, first_seed=100 if number % 3 == 2 else 0)


def verdict(first: Group, other: Group, language: str = "en") -> tuple[str, str, str]:
    """The word, the sign and the size of a verdict."""
    (found,) = seeds.verdicts([first, other], METRIC, Language(language))
    match = TEXT.match(found.text)
    assert match is not None, found.text
    return match[1], match[2], match[3]


def compared(first: Group, other: Group) -> tuple[list[float], list[float], bool]:
    """The values that are compared, and whether they are pairs."""
    one, two = first.values(METRIC), other.values(METRIC)
    common = [seed for seed in one if seed in two]
    paired = len(common) >= 2 and 2 * len(common) >= min(len(one), len(two))
    if paired:
        return [one[seed] for seed in common], [two[seed] for seed in common], True
    return list(one.values()), list(two.values()), False


@pytest.mark.parametrize(("number", "mode"), CASES)
def test_the_sign_is_that_of_the_means_in_the_table(number: int, mode: Mode) -> None:
    first, other = random_groups(number, mode)
    one, two, _ = compared(first, other)
    _, sign, size = verdict(first, other)
    assert (sign, size) == ("-" if fmean(two) < fmean(one) else "+", seeds.rounded(abs(fmean(two) - fmean(one))))
    if len(first.runs) == len(other.runs):
        means = [float(row[f"{METRIC}\nmean"]) for row in seeds.rows([first, other], [METRIC])]
        assert means[0] == means[1] or (sign == "-") == (means[1] < means[0])


@pytest.mark.parametrize(("number", "mode"), CASES)
def test_better_and_worse_are_said_where_a_test_rejects_equal_means_and_nowhere_else(number: int, mode: Mode) -> None:
    first, other = random_groups(number, mode)
    one, two, paired = compared(first, other)
    test = stats.ttest_rel(two, one) if paired else stats.ttest_ind(two, one, equal_var=False)
    word, sign, _ = verdict(first, other)
    better = (sign == "-") == (mode == "min")
    assert word == ("undecided" if test.pvalue >= 0.05 else "better" if better else "worse")


@pytest.mark.parametrize(("number", "mode"), CASES)
def test_the_other_way_round_the_verdict_is_the_opposite(number: int, mode: Mode) -> None:
    first, other = random_groups(number, mode)
    word, sign, size = verdict(first, other)
    opposite = {"better": "worse", "worse": "better", "undecided": "undecided"}
    assert verdict(other, first) == (opposite[word], "-" if sign == "+" else "+", size)


@pytest.mark.parametrize("number", range(0, 60, 7))
def test_in_uzbek_a_verdict_is_the_same(number: int) -> None:
    first, other = random_groups(number, "min")
    word, sign, size = verdict(first, other)
    assert verdict(first, other, "uz") == (WORDS["uz"][WORDS["en"].index(word)], sign, size)


def test_the_random_groups_have_every_verdict_in_either_mode() -> None:
    found = {(mode, verdict(*random_groups(number, mode))[0]) for number, mode in CASES}
    assert len(found) == 6


@pytest.mark.parametrize(("number", "mode"), CASES[:30])
def test_the_headline_repeats_the_tables_verdict(number: int, mode: Mode) -> None:
    found = list(random_groups(number, mode))
    text = seeds.rows(found, [METRIC])[1]["minus the first"]
    headline = seeds.headline(found, METRIC)
    assert headline.startswith("lowest" if mode == "min" else "highest")
    assert headline.endswith(f"against the first, a: {text}") or ": a, " in headline


def test_from_one_run_each_nothing_is_better() -> None:
    first, other = group("a", np.array([0.5]), "min"), group("b", np.array([0.4]), "min")
    comparison = Comparison([*first.runs, *other.runs], [METRIC], [])
    (found,) = seeds.verdicts(seeds.groups(comparison), METRIC)
    assert (found.direction, found.text) == (0, "no verdict from one run of a")
