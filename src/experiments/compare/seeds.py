"""Runs that differ by seed alone, as one group: its mean and spread, and what can be said of it against the first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from experiments.compare.comparison import Comparison, Run

if TYPE_CHECKING:
    from experiments.compare.statistics import Difference


@dataclass(frozen=True)
class Group:
    """Runs that have settings, code and data in common, and differ by seed alone.

    Args:
        label: what tells it from the other groups.
        runs: those that finished, one of each seed.
        left_out: how many others there are: not finished, or a seed once more.
    """

    label: str
    runs: Sequence[Run]
    left_out: int

    def figures(self, metric: str, *, last: bool = False) -> dict[tuple[str, ...], float]:
        """Each run's best value, or its last one, by its seed; of those that are finite."""
        if last:
            ends = {run.seed: run.last(metric) for run in self.runs}
            return {seed: value for seed, value in ends.items() if value is not None and math.isfinite(value)}
        return {run.seed: found[1] for run in self.runs if (found := run.best(metric))}


@dataclass(frozen=True)
class Verdict:
    """What the seeds tell of a group against the first one.

    Args:
        first: the group that it is measured by.
        other: the group.
        metric: by what.
        last: by the last epochs' values, instead of the best ones.
    """

    first: Group
    other: Group
    metric: str
    last: bool = False

    @cached_property
    def difference(self) -> Difference | None:
        """Positive where the other is better; None where one run is all there is of either."""
        first, other = self._figures
        if min(len(first), len(other)) < 2:
            return None
        # Imported now: scipy takes a second or two, which single runs need not wait for.
        from experiments.compare import statistics

        sign = -self.first.runs[0].sign(self.metric)
        # Pairs are worth more than all that they leave out, unless those are most.
        common = [seed for seed in first if seed in other]
        if len(common) >= 2 and 2 * len(common) >= min(len(first), len(other)):
            return statistics.paired([sign * first[seed] for seed in common], [sign * other[seed] for seed in common])
        return statistics.unpaired(
            [sign * value for value in first.values()], [sign * value for value in other.values()]
        )

    @property
    def runs(self) -> int:
        """Of how many of each group it tells."""
        first, other = self._figures
        assert self.difference is not None
        return len(first.keys() & other.keys()) if self.difference.paired else min(len(first), len(other))

    @property
    def _figures(self) -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
        return self.first.figures(self.metric, last=self.last), self.other.figures(self.metric, last=self.last)

    @property
    def direction(self) -> int:
        """1 where the other is better, -1 where it is worse, 0 where that cannot be told."""
        found = self.difference
        return 0 if found is None or not found.decided else 1 if found.estimate > 0 else -1

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        found = self.difference
        if found is None:
            figures = zip(self._figures, (self.first, self.other), strict=True)
            count, label = min((len(values), group.label) for values, group in figures)
            return f"one run of {label} tells nothing about seeds" if count else f"no run of {label} has a finite value"
        how = f"{self.runs} seeds, {'paired' if found.paired else 'unpaired'}"
        if found.low == found.high:
            same = "no difference" if not found.estimate else f"{_amount(found.estimate)}, the same"
            return f"{same} for every seed ({how})"
        if found.decided:
            ends = sorted((abs(found.low), abs(found.high)))
            return f"{_amount(found.estimate)} [{figure(ends[0])}, {figure(ends[1])}] (95 %, {how})"
        needed = f"about {found.needed} are" if found.needed else "more than 100 are"
        told = f"{figure(found.estimate)} [{figure(found.low)}, {figure(found.high)}], 95 %, "
        return f"cannot tell apart with {self.runs} seeds; {needed} needed (better by {told}{how.split(', ')[1]})"


def _amount(gain: float) -> str:
    return f"{'better' if gain > 0 else 'worse'} by {figure(abs(gain))}"


def figure(value: float) -> str:
    """A number as it is read in a table: four decimals, more where those would be zeros."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"


def groups(comparison: Comparison) -> list[Group]:
    """The groups in the order of their first runs."""
    members: dict[str, list[Run]] = {}
    for run in comparison.runs:
        members.setdefault(run.group, []).append(run)
    found = []
    for label, runs in members.items():
        by_seed = {
            run.seed: run for run in runs if run.job.status == "FINISHED" and run.best(comparison.metric) is not None
        }
        found.append(Group(label, list(by_seed.values()), len(runs) - len(by_seed)))
    return found


def verdicts(found: Sequence[Group], metric: str, *, last: bool = False) -> list[Verdict]:
    """Each group but the first, against the first."""
    return [Verdict(found[0], other, metric, last) for other in found[1:] if found[0].runs and other.runs]


def repeated(found: Sequence[Group]) -> bool:
    """Whether anything was run with several seeds."""
    return any(len(group.runs) > 1 for group in found)


def headline(found: Sequence[Group], metric: str) -> str:
    """The answer in a sentence: which group is best by its mean, and whether that is more than chance."""
    means = {group.label: fmean(group.figures(metric).values()) for group in found if group.runs}
    sign = next(group.runs[0].sign(metric) for group in found if group.runs)
    best = min(means, key=lambda label: sign * means[label])
    told = f"best mean: {best}, {metric} {figure(means[best])}"
    words = [verdict.words for verdict in verdicts(found, metric) if verdict.other.label == best]
    return "; ".join([told, *(f"against the first, {found[0].label}: {line}" for line in words)])


def notes(found: Sequence[Group], metric: str) -> list[str]:
    """What a reader should know of how sure the verdicts are."""
    if not repeated(found):
        return ["one run each: how much of a difference is the seed's, nothing tells; -m seed=0,1,2 would"] * (
            len(found) > 1
        )
    told = []
    if (compared := sum(len(group.runs) > 1 for group in found[1:])) > 1:
        told.append(f"each of the {compared} intervals is 95 % sure by itself; one in twenty misses the truth")
    if any(group.left_out for group in found):
        told.append("left out of the means: runs that have not finished, and all but one run of the same seed")
    for by_best, by_last in zip(verdicts(found, metric), verdicts(found, metric, last=True), strict=True):
        if by_best.direction != by_last.direction:
            told.append(f"{by_best.other.label} by its last epochs, not its best ones: {by_last.words}")
    return told


def rows(found: Sequence[Group], metrics: Sequence[str]) -> list[dict[str, str]]:
    """A row a group: how many runs, and of each metric's best values the mean and the spread."""
    told = {verdict.other.label: verdict.words for verdict in verdicts(found, metrics[0])}
    table = []
    for group in found:
        row = {"runs alike but for the seed": group.label, "seeds": str(len(group.runs))}
        for metric in metrics:
            row |= _moments(list(group.figures(metric).values()), metric)
        row["left out"] = str(group.left_out or "")
        table.append(row | {"against the first": told.get(group.label, "")})
    return [
        {key: value for key, value in row.items() if key != "left out" or any(other["left out"] for other in table)}
        for row in table
    ]


def _moments(values: Sequence[float], metric: str) -> Mapping[str, str]:
    mean = figure(fmean(values)) if values else ""
    return {f"{metric} mean": mean, f"{metric} sd": figure(stdev(values)) if len(values) > 1 else ""}
