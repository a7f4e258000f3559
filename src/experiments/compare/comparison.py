"""Runs made comparable: the settings that differ, a metric that they have, and what limits the comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.compare import differences, earlier
from experiments.compare.differences import is_seed
from experiments.config.language import ENGLISH, Language
from experiments.errors import ConfigError, Fault, first_line, nearest, suggestion
from experiments.runs.job_record import JobRecord
from experiments.sweeps.rows import are_stages

METRIC = "valid/loss"

Points = Mapping[int, float]
Mode = Literal["min", "max"]


@dataclass(frozen=True)
class Run:
    """One of the runs that are compared.

    Args:
        label: distinguishes it from the other runs.
        group: the label that it shares with runs that differ by seed alone, or by what the comparison is over.
        settings: its values of the settings that differ.
        modes: whether the smallest or the largest value of a metric is its best.
        behind: the epochs behind its starting weights; empty for fresh ones, or where all runs have the same.
        over: the settings that count as seeds.
    """

    job: JobRecord
    label: str
    group: str
    settings: Mapping[str, str]
    modes: Mapping[str, Mode]
    behind: str = ""
    over: Sequence[str] = ()

    def points(self, metric: str) -> Points:
        """Return a metric's value by epoch; empty where the run has none."""
        return self.job.metrics.get(metric, {})

    def best(self, metric: str) -> tuple[int, float] | None:
        """Return the epoch with the best value, and the value; None without a finite one."""
        sign = self.sign(metric)
        finite = [(sign * value, epoch) for epoch, value in self.points(metric).items() if math.isfinite(value)]
        return (min(finite)[1], sign * min(finite)[0]) if finite else None

    def sign(self, metric: str) -> int:
        """Return the factor that makes the smaller of two values the better one."""
        return -1 if self.modes[metric] == "max" else 1

    def last(self, metric: str) -> float | None:
        """Return the value after the last epoch."""
        points = self.points(metric)
        return points[max(points)] if points else None

    @property
    def seed(self) -> tuple[str, ...]:
        """Return the seeds, and the values that count as seeds; two runs with the same ones are paired."""
        given = self.job.start.identity or self.job.start.params
        seeds = [str(given[name]) for name in sorted(given) if is_seed(name)]
        return (*seeds, *(self.settings.get(key, "") for key in self.over))


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Args:
        runs: in the order in which they were named; the others are measured against the first.
        metrics: the one that they are compared by, and the accuracy beside it where there is one.
        notes: what limits the comparison.
        say: the language of the notes, and of all that is written about the comparison.
        over: the keys whose values count as seeds; and the seeds that differ; none for seeds alone.
        least: the size up to which a difference of two groups does not count.
    """

    runs: Sequence[Run]
    metrics: Sequence[str]
    notes: Sequence[str]
    say: Language = ENGLISH
    over: Sequence[str] = ()
    least: float = 0.0

    @property
    def metric(self) -> str:
        """Return the metric that they are compared by."""
        return self.metrics[0]

    @property
    def best(self) -> Run:
        """Return the run with the best value."""
        return min(self.runs, key=self.rank)

    def rank(self, run: Run) -> float:
        """Return a number that is smaller for better runs, infinite for a run without a value."""
        found = run.best(self.metric)
        return math.inf if found is None else run.sign(self.metric) * found[1]


def compare(
    jobs: Sequence[JobRecord], metric: str, mode: Mode | None = None, say: Language = ENGLISH, over: Sequence[str] = ()
) -> Comparison:
    """Lay runs side by side, compared by a metric; without a mode its name decides which value is best.

    Runs that differ by seed, or by the settings `over` (`dataset.fold`), are one group.

    Raises:
        ConfigError: no run has an epoch or the metric, no value of it is finite, the runs have no metric in common, or
            its name does not decide which value is best; no run has a setting of `over`.
    """
    _check(metric, jobs)
    accuracy = f"{metric.split('/', maxsplit=1)[0]}/accuracy"
    beside = [accuracy] if accuracy != metric and any(job.metrics.get(accuracy) for job in jobs) else []
    modes: dict[str, Mode] = {accuracy: "max", metric: mode or _mode(metric)}
    values = differences.with_effect(jobs)
    keys = differences.differing_keys(jobs, values)
    labels = differences.labels_of(values, keys, jobs)
    _check_over(over, values, keys)
    groups = differences.groups_of(values, keys, jobs, over)
    behind = earlier.epochs(jobs)
    ends = [earlier.suffix(job, count, keys, say) for job, count in zip(jobs, behind, strict=True)]
    runs = [
        Run(job, label + end, group + end, {key: given.get(key, "") for key in keys}, modes, count, over)
        for job, label, group, given, count, end in zip(jobs, labels, groups, values, behind, ends, strict=True)
    ]
    same_data = bool(over) and differences.data_follow(values, over, jobs)
    notes = [say("{key} is the same in all runs", key=key) for key in over if key not in keys]
    notes += _notes(runs, metric, say, same_data=same_data)
    counted = [key for key in keys if over and (key in over or is_seed(key))]
    return Comparison(runs, [metric, *beside], notes, say, counted)


def _check_over(over: Sequence[str], values: Sequence[Mapping[str, str]], differing: Sequence[str]) -> None:
    known = sorted({key for settings in values for key in settings})
    for name in set(over) - set(known):
        near = [key for key in known if key.endswith(f".{name}")] or nearest(name, known)
        raise ConfigError(Fault(f"--over {name}", f"no run has this setting{suggestion(name, differing, near)}"))


def _mode(metric: str) -> Mode:
    if metric.endswith(("loss", "error")) or metric.startswith("time/"):
        return "min"
    if metric.endswith("accuracy") or metric.startswith("throughput/"):
        return "max"
    problem = "its name does not show whether less or more of it is better; add --mode min or --mode max"
    raise ConfigError(Fault(f"--metric {metric}", problem))


def _check(metric: str, jobs: Sequence[JobRecord]) -> None:
    trained = [job for job in jobs if "train/loss" in job.metrics or metric in job.metrics]
    if not trained:
        states = ", ".join(f"{job.job} {job.status}" for job in jobs)
        raise ConfigError(Fault("compare", f"no run has finished an epoch: {states}"))
    names = [{name for name in job.metrics if not name.startswith(("untrained/", "tutorial/"))} for job in trained]
    if not set.intersection(*names):
        listed = "; ".join(f"{job.job} has {', '.join(sorted(job.metrics))}" for job in jobs if job.metrics)
        raise ConfigError(Fault("compare", f"these runs have no metric in common: {listed}"))
    if not any(metric in job.metrics for job in trained):
        problem = f"no run has this metric{suggestion(metric, set.union(*names))}"
        raise ConfigError(Fault(f"--metric {metric}", problem))
    if not any(math.isfinite(value) for job in trained for value in job.metrics.get(metric, {}).values()):
        raise ConfigError(Fault(f"--metric {metric}", "no run has a finite value of it"))


def _notes(runs: Sequence[Run], metric: str, say: Language, *, same_data: bool) -> Iterator[str]:
    jobs = [run.job for run in runs]
    if len(runs) == 1:
        yield say("one run only: there is nothing to compare it with")
    for label in dict.fromkeys(run.group for run in runs if run.behind):
        yield say("{label} started from trained weights: more epochs are a part of its difference", label=label)
    versions = differences.differing_versions(jobs)
    if differences.DATA in versions and not same_data:
        yield say("not all were trained and validated on the same data")
        for key in [key for key in runs[0].settings if key.startswith("dataset.")]:
            yield say("--over {key} counts it as a seed", key=key)
    losses = {job.start.params.get("loss.name") for job in jobs if job.started}
    if metric.endswith("/loss") and len(losses) > 1 and not are_stages(jobs):
        names = ", ".join(sorted(map(str, losses)))
        yield say("{metric} is one measure only if these losses are: {losses}", metric=metric, losses=names)
    if code := [name.removeprefix("code of ") for name in versions if name.startswith("code of ")]:
        yield say("the source code of {names} differs between runs", names=", ".join(code))
    for name, values in versions.items():
        if name.startswith("machine."):
            yield say("{name} differs: {values}", name=name, values=", ".join(values))
    for run in runs:
        if run.job.status != "FINISHED":
            reason = f": {first_line(run.job.reason)}" if run.job.reason else ""
            yield say("{label} is {status}", label=run.label, status=run.job.status) + reason
        elif run.best(metric) is None:
            finite = say("finite ") if metric in run.job.metrics else ""
            yield say("{label} has no {metric}", label=run.label, metric=f"{finite}{metric}")
        elif (last := run.last(metric)) is not None and not math.isfinite(last):
            yield say("{label} ended with {metric} {value}", label=run.label, metric=metric, value=last)
