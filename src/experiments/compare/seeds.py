"""Runs that differ by seed alone, as one group: its mean, its spread, and how sure its difference from the first is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from experiments.compare.comparison import Comparison, Run

if TYPE_CHECKING:
    from experiments.compare.statistics import Difference

BySeed = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Group:
    """Runs with the same settings, code and data, that differ by seed alone.

    Args:
        label: distinguishes it from the other groups.
        runs: those that finished, one for each seed.
        left_out: how many others there are: not finished, or with a seed that is there already.
    """

    label: str
    runs: Sequence[Run]
    left_out: int

    def values(self, metric: str, *, last: bool = False) -> BySeed:
        """Return each run's best value, or its last one, by its seed; only finite ones."""
        if last:
            ends = {run.seed: run.last(metric) for run in self.runs}
            return {seed: value for seed, value in ends.items() if value is not None and math.isfinite(value)}
        return {run.seed: best[1] for run in self.runs if (best := run.best(metric))}


@dataclass(frozen=True)
class Verdict:
    """A group against the first one.

    Args:
        label: the group's.
        direction: 1 where it is better, -1 where it is worse, 0 where that is undecided.
        text: the verdict in a sentence.
    """

    label: str
    direction: int
    text: str


def rounded(value: float) -> str:
    """Return a number for a table: with four decimals, or two digits where those would be zeros."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"


def groups(comparison: Comparison) -> list[Group]:
    """Return the groups in the order of their first runs."""
    members: dict[str, list[Run]] = {}
    for run in comparison.runs:
        members.setdefault(run.group, []).append(run)
    found = []
    for label, runs in members.items():
        by_seed = {run.seed: run for run in runs if run.job.finished and run.best(comparison.metric) is not None}
        found.append(Group(label, list(by_seed.values()), len(runs) - len(by_seed)))
    return found


def verdicts(found: Sequence[Group], metric: str, *, last: bool = False) -> list[Verdict]:
    """Compare each group with the first, where both have runs, by their best epochs or their last ones."""
    return [_verdict(found[0], other, metric, last) for other in found[1:] if found[0].runs and other.runs]


def _verdict(first: Group, other: Group, metric: str, last: bool) -> Verdict:
    one, two = first.values(metric, last=last), other.values(metric, last=last)
    count, label = min((len(one), first.label), (len(two), other.label))
    if count < 2:
        text = f"no verdict from one run of {label}" if count else f"no run of {label} has a finite value"
        return Verdict(other.label, 0, text)
    # Late: scipy takes a second or two, which single runs need not wait for.
    from experiments.compare import statistics

    sign = -first.runs[0].sign(metric)
    # Pairs are worth more than all that they leave out, unless those are most.
    common = [seed for seed in one if seed in two]
    if paired := len(common) >= 2 and 2 * len(common) >= count:
        one, two, count = ({seed: one[seed] for seed in common}, {seed: two[seed] for seed in common}, len(common))
    gains = [sign * value for value in one.values()], [sign * value for value in two.values()]
    found = statistics.difference(*gains, paired=paired)
    direction = 0 if not found.decided else 1 if found.estimate > 0 else -1
    return Verdict(other.label, direction, _text(found, count, "paired" if paired else "unpaired"))


def _text(found: Difference, seeds: int, pairing: str) -> str:
    if found.low == found.high:
        same = "no difference" if not found.estimate else f"{_amount(found.estimate)}, the same"
        return f"{same} for every seed ({seeds} seeds, {pairing})"
    if found.decided:
        low, high = sorted((abs(found.low), abs(found.high)))
        return f"{_amount(found.estimate)} [{rounded(low)}, {rounded(high)}] (95 %, {seeds} seeds, {pairing})"
    needed = f"about {found.needed} are" if found.needed else "more than 100 are"
    interval = f"{rounded(found.estimate)} [{rounded(found.low)}, {rounded(found.high)}]"
    return f"cannot separate with {seeds} seeds; {needed} needed (better by {interval}, 95 %, {pairing})"


def _amount(gain: float) -> str:
    return f"{'better' if gain > 0 else 'worse'} by {rounded(abs(gain))}"


def repeated(found: Sequence[Group]) -> bool:
    """Return whether any group has several seeds."""
    return any(len(group.runs) > 1 for group in found)


def headline(found: Sequence[Group], metric: str) -> str:
    """Return the answer in a sentence: which group has the best mean, and whether that is more than chance."""
    with_runs = [group for group in found if group.runs]
    means = {group.label: fmean(group.values(metric).values()) for group in with_runs}
    sign = with_runs[0].runs[0].sign(metric)
    best = min(means, key=lambda label: sign * means[label])
    answer = f"best mean: {best}, {metric} {rounded(means[best])}"
    against = [verdict.text for verdict in verdicts(found, metric) if verdict.label == best]
    return "; ".join([answer, *(f"against the first, {found[0].label}: {text}" for text in against)])


def notes(found: Sequence[Group], metric: str) -> list[str]:
    """Return what limits the verdicts."""
    if not repeated(found):
        note = "one run each: a difference may be the seed's; to find out, train several: -m seed=0,1,2"
        return [note] if len(found) > 1 else []
    lines = []
    if (compared := sum(len(group.runs) > 1 for group in found[1:])) > 1:
        lines.append(f"each of the {compared} intervals is 95 % sure by itself; one in twenty misses the truth")
    if any(group.left_out for group in found):
        lines.append("left out of the means: runs that have not finished, and all but one run of the same seed")
    for by_best, by_last in zip(verdicts(found, metric), verdicts(found, metric, last=True), strict=True):
        if by_best.direction != by_last.direction:
            lines.append(f"{by_best.label} by its last epochs, not its best ones: {by_last.text}")
    return lines


def rows(found: Sequence[Group], metrics: Sequence[str]) -> list[dict[str, str]]:
    """Return a row for each group: its number of seeds, and each metric's mean and standard deviation."""
    against = {verdict.label: verdict.text for verdict in verdicts(found, metrics[0])}
    any_left_out = any(group.left_out for group in found)
    table = []
    for group in found:
        row = {"runs alike but for the seed": group.label, "seeds": str(len(group.runs))}
        for metric in metrics:
            values = list(group.values(metric).values())
            row[f"{metric} mean"] = rounded(fmean(values)) if values else ""
            row[f"{metric} sd"] = rounded(stdev(values)) if len(values) > 1 else ""
        if any_left_out:
            row["left out"] = str(group.left_out or "")
        table.append(row | {"against the first": against.get(group.label, "")})
    return table
