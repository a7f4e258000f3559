"""Runs that differ by seed alone, as one group: its mean, its spread, and how sure its difference from the first is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from experiments.compare.comparison import Comparison, Run
from experiments.config.language import ENGLISH, Language

if TYPE_CHECKING:
    from experiments.compare.statistics import Difference, Sample

ROUNDING = 1e-6  # the part of a value that the order of additions can change

BySeed = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Group:
    """Runs with the same settings, code and data, that differ by seed alone.

    Args:
        label: distinguishes it from the other groups.
        runs: those that finished, one for each seed.
        left_out: how many others there are: not finished, or with a seed that is there already.
        over: the keys whose values count as seeds; none for seeds alone.
        least: the size up to which a difference from another group does not count.
    """

    label: str
    runs: Sequence[Run]
    left_out: int
    over: Sequence[str] = ()
    least: float = 0.0

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
        direction: 1 where it is better, -1 where worse, 0 where undecided.
        difference: the numbers; None where one of the two has fewer than two runs.
        paired: whether they were compared seed by seed.
    """

    label: str
    direction: int
    text: str
    difference: Difference | None = None
    paired: bool = False


def rounded(value: float) -> str:
    """Return a number for a table: with four decimals, or two digits where those would be zeros."""
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"


def signed(difference: float) -> str:
    """Return a difference, a value minus that of the first, with its sign."""
    return f"{'-' if difference < 0 else '+'}{rounded(abs(difference))}"


def groups(comparison: Comparison) -> list[Group]:
    """Return the groups in the order of their first runs."""
    members: dict[str, list[Run]] = {}
    for run in comparison.runs:
        members.setdefault(run.group, []).append(run)
    found = []
    for label, runs in members.items():
        by_seed = {run.seed: run for run in runs if run.job.finished and run.best(comparison.metric) is not None}
        found.append(Group(label, list(by_seed.values()), len(runs) - len(by_seed), comparison.over, comparison.least))
    return found


def verdicts(found: Sequence[Group], metric: str, say: Language = ENGLISH, *, last: bool = False) -> list[Verdict]:
    """Compare each group with the first by their best epochs or their last ones, corrected for their number."""
    first, *others = found
    measured: Iterator[Difference] = iter(())
    samples = [_sample(first.values(metric, last=last), other.values(metric, last=last)) for other in others]
    if known := [sample for sample in samples if sample]:
        # Late: scipy takes a second or two, which single runs need not wait for.
        from experiments.compare import statistics

        measured = iter(statistics.differences(known, first.least))
    return [
        _verdict(first, other, next(measured), sample[2], metric, say)
        if sample
        else _none(first, other, metric, say, last=last)
        for other, sample in zip(others, samples, strict=True)
    ]


def _sample(one: BySeed, two: BySeed) -> Sample | None:
    """Return the values of two groups, as pairs of a seed where these are half of the fewer; None for single values."""
    fewer, common = min(len(one), len(two)), [seed for seed in one if seed in two]
    if len(common) >= 2 and 2 * len(common) >= fewer:
        return [one[seed] for seed in common], [two[seed] for seed in common], True
    return (list(one.values()), list(two.values()), False) if fewer > 1 else None


def _none(first: Group, other: Group, metric: str, say: Language, *, last: bool) -> Verdict:
    """Return why there is no verdict: one of the two groups has fewer than two runs."""
    count, label = min((len(group.values(metric, last=last)), group.label) for group in (first, other))
    text = say("no verdict from one run of {label}" if count else "no run of {label} has a finite value", label=label)
    return Verdict(other.label, 0, text)


def _verdict(first: Group, other: Group, found: Difference, paired: bool, metric: str, say: Language) -> Verdict:
    smaller_is_better = first.runs[0].sign(metric)
    direction = (smaller_is_better if found.estimate < 0 else -smaller_is_better) if found.decided else 0
    text = _text(found, direction, first.over, say("paired") if paired else say("unpaired"), say)
    return Verdict(other.label, direction, text, found, paired)


def _text(found: Difference, direction: int, over: Sequence[str], pairing: str, say: Language) -> str:
    """Return the signed difference and its interval; the word before them is better or worse only where decided."""
    basis = [say("{count} {key}s", count=found.runs, key=counted(over, say)), pairing]
    if found.low == found.high == 0:
        return f"{say('no difference in any run')} ({', '.join(basis)})"
    around = say("in every run")
    if found.low != found.high:
        around = f"[{signed(found.low)}, {signed(found.high)}]"
        basis.insert(0, f"{100 * found.level:.4g} %")
    if found.least:
        basis.append(say("more than {least} counts", least=rounded(found.least)))
    if not direction and abs(found.estimate) >= found.least:
        basis.append(say("about {count} needed", count=found.needed) if found.needed else say("more than 100 needed"))
    word = (say("undecided"), say("better"), say("worse"))[direction]
    return f"{word}: {signed(found.estimate)} {around} ({', '.join(basis)})"


def counted(over: Sequence[str], say: Language) -> str:
    """Return the word for what a group has several of: seed, fold or run."""
    return say("run") if len(over) > 1 else over[0].rpartition(".")[2] if over else "seed"


def repeated(found: Sequence[Group]) -> bool:
    """Return whether any group has several seeds."""
    return any(len(group.runs) > 1 for group in found)


def headline(found: Sequence[Group], metric: str, say: Language = ENGLISH) -> str:
    """Return the answer in a sentence: which group has the best mean, and whether that is more than chance."""
    with_runs = [group for group in found if group.runs]
    means = {group.label: fmean(group.values(metric).values()) for group in with_runs}
    sign = with_runs[0].runs[0].sign(metric)
    best = min(means, key=lambda label: sign * means[label])
    leading = say("lowest mean {metric}" if sign > 0 else "highest mean {metric}", metric=metric)
    against = say("against the first, {label}", label=found[0].label)
    texts = [verdict.text for verdict in verdicts(found, metric, say) if verdict.label == best]
    return "; ".join([f"{leading}: {best}, {rounded(means[best])}", *(f"{against}: {text}" for text in texts)])


def notes(found: Sequence[Group], metric: str, say: Language = ENGLISH) -> list[str]:
    """Return what limits the verdicts."""
    if not repeated(found):
        note = say("one run each: a difference may be the seed's; to find out, train several: -m seed=0,1,2")
        return [note] if len(found) > 1 else []
    lines = []
    by_best, by_last = verdicts(found, metric, say), verdicts(found, metric, say, last=True)
    if (compared := sum(verdict.difference is not None for verdict in by_best)) > 1:
        lines.append(say("the {count} verdicts are 95 % sure together (intervals by Holm's levels)", count=compared))
    if any(group.left_out for group in found):
        lines.append(say("left out of the means: runs that have not finished, and all but one run of the same seed"))
    for best, last in zip(by_best, by_last, strict=True):
        if best.direction != last.direction:
            lines.append(say("{label} by its last epochs, not its best ones", label=best.label) + f": {last.text}")
    return lines


def rows(found: Sequence[Group], metrics: Sequence[str], say: Language = ENGLISH) -> list[dict[str, str]]:
    """Return a row for each group: its number of seeds, and each metric's mean and standard deviation."""
    against = {verdict.label: verdict.text for verdict in verdicts(found, metrics[0], say)}
    any_left_out = any(group.left_out for group in found)
    table = []
    for group in found:
        alike = say("runs alike but\nfor {keys}", keys=", ".join(group.over) or say("the seed"))
        row = {alike: group.label, say("runs"): str(len(group.runs))}
        for metric in metrics:
            values = list(group.values(metric).values())
            row[f"{metric}\n{say('mean')}"] = rounded(fmean(values)) if values else ""
            row[f"{metric}\n{say('sd')}"] = rounded(stdev(values)) if len(values) > 1 else ""
        if any_left_out:
            row[say("left out")] = str(group.left_out or "")
        table.append(row | {say("minus the first"): against.get(group.label, "")})
    return table
