"""Runs made comparable: the settings that differ, a metric that they have, and what has to be said beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.compare.differences import (
    differing_facts,
    differing_keys,
    groups_of,
    is_seed,
    labels_of,
    with_effect,
)
from experiments.compare.selection import Chosen
from experiments.errors import ConfigError, Fault, suggestion
from experiments.runs.job_record import JobRecord
from experiments.sweeps.summary import are_stages

METRIC = "valid/loss"

Points = Mapping[int, float]
Mode = Literal["min", "max"]


@dataclass(frozen=True)
class Run:
    """One of the runs that are compared.

    Args:
        job: its journal's summary.
        label: what tells it from the others.
        group: what tells it from others but those that differ by seed alone.
        settings: its values of the settings that differ.
        points: each figure by name and epoch.
        modes: whether the smallest or the largest value of a metric is its best.
    """

    job: JobRecord
    label: str
    group: str
    settings: Mapping[str, str]
    points: Mapping[str, Points]
    modes: Mapping[str, Mode]

    def best(self, metric: str) -> tuple[int, float] | None:
        """The epoch with the best value, and the value; None where it has none that is a number."""
        sign = self.sign(metric)
        found = [(sign * value, epoch) for epoch, value in self.points.get(metric, {}).items() if math.isfinite(value)]
        return (min(found)[1], sign * min(found)[0]) if found else None

    def sign(self, metric: str) -> int:
        """What makes the smaller of two values the better one."""
        return -1 if self.modes[metric] == "max" else 1

    def last(self, metric: str) -> float | None:
        """The value after the last epoch."""
        points = self.points.get(metric)
        return points[max(points)] if points else None

    def best_is_last(self, metric: str) -> bool:
        """Whether its best value is what it ended with."""
        found = self.best(metric)
        return found is not None and found[1] == self.last(metric)

    @property
    def seconds(self) -> float:
        """What its epochs took."""
        return sum(self.points.get("time/epoch_seconds", {}).values())

    @property
    def seed(self) -> tuple[str, ...]:
        """What its random numbers come from: two runs with the same are paired."""
        given = self.job.start.identity or self.job.start.params
        return tuple(str(given[name]) for name in sorted(given) if is_seed(name))


@dataclass(frozen=True)
class Comparison:
    """What is shown.

    Args:
        runs: in the order in which they were asked for; the first is what the others are measured by.
        metrics: the one that they are compared by, and the accuracy beside it where there is one.
        keys: the settings that differ.
        notes: what a reader should know before believing the figures.
    """

    runs: Sequence[Run]
    metrics: Sequence[str]
    keys: Sequence[str]
    notes: Sequence[str]

    @property
    def metric(self) -> str:
        """What they are compared by."""
        return self.metrics[0]

    @property
    def best(self) -> Run:
        """The run with the best value."""
        return min(self.runs, key=self.rank)

    def rank(self, run: Run) -> float:
        """Smaller is better; a run without a value is last."""
        found = run.best(self.metric)
        return math.inf if found is None else run.sign(self.metric) * found[1]


def compare(chosen: Chosen, metric: str, mode: Mode | None = None) -> Comparison:
    """Lay the runs side by side.

    Args:
        chosen: the runs.
        metric: what they are compared by.
        mode: whether its smallest or its largest value is best; None for what its name tells.

    Raises:
        ConfigError: none of them has an epoch, or they have no such metric, or none in common, or it is finite in none
            of them, or its name does not tell which value is best.
    """
    points = [job.metrics for job in chosen.jobs]
    _check(metric, chosen.jobs, points)
    accuracy = f"{metric.split('/', maxsplit=1)[0]}/accuracy"
    beside = [accuracy] if accuracy != metric and any(found.get(accuracy) for found in points) else []
    modes: dict[str, Mode] = {accuracy: "max", metric: mode or _mode(metric)}
    values = with_effect(chosen.jobs)
    keys = differing_keys(chosen.jobs, values)
    labels = labels_of(values, keys, chosen.jobs)
    groups = groups_of(values, [key for key in keys if not is_seed(key)], chosen.jobs)
    runs = [
        Run(job, label, group, {key: given.get(key, "") for key in keys}, found, modes)
        for job, label, group, given, found in zip(chosen.jobs, labels, groups, values, points, strict=True)
    ]
    return Comparison(runs, [metric, *beside], keys, _notes(runs, metric))


def _mode(metric: str) -> Mode:
    """Whether the smallest or the largest value is best, by the metric's name; one that does not tell is no guess's."""
    if metric.endswith(("loss", "error")) or metric.startswith("time/"):
        return "min"
    if metric.endswith("accuracy") or metric.startswith("throughput/"):
        return "max"
    problem = "its name does not tell whether less or more of it is better; say --mode min or --mode max"
    raise ConfigError(Fault(f"--metric {metric}", problem))


def _check(metric: str, jobs: Sequence[JobRecord], points: Sequence[Mapping[str, Points]]) -> None:
    begun = [found for found in points if "train/loss" in found or metric in found]
    if not begun:
        states = ", ".join(f"{job.job} {job.status}" for job in jobs)
        raise ConfigError(Fault("compare", f"none of these runs has finished an epoch: {states}"))
    per_epoch = [{name for name in found if not name.startswith(("untrained/", "tutorial/"))} for found in begun]
    if not set.intersection(*per_epoch):
        told = "; ".join(
            f"{job.job} has {', '.join(sorted(found))}" for job, found in zip(jobs, points, strict=True) if found
        )
        raise ConfigError(Fault("compare", f"these runs have no metric in common: {told}"))
    if not any(metric in found for found in begun):
        problem = f"none of these runs has this metric{suggestion(metric, set.union(*per_epoch))}"
        raise ConfigError(Fault(f"--metric {metric}", problem))
    if not any(math.isfinite(value) for found in begun for value in found.get(metric, {}).values()):
        raise ConfigError(Fault(f"--metric {metric}", "none of these runs has a finite value of it"))


def _notes(runs: Sequence[Run], metric: str) -> list[str]:
    jobs = [run.job for run in runs]
    notes = []
    if len(runs) == 1:
        notes.append("one run only: there is nothing to compare it with")
    facts = differing_facts(jobs)
    if facts.pop("content of dataset", None):
        notes.append("not all were trained and validated on the same data")
    losses = {job.start.params.get("loss.name") for job in jobs if job.started}
    if metric.endswith("/loss") and len(losses) > 1 and not are_stages(jobs):
        notes.append(f"{metric} is one measure only if these losses are: {', '.join(sorted(map(str, losses)))}")
    codes = [name.removeprefix("code of ") for name in facts if name.startswith("code of ")]
    if codes:
        notes.append(f"the source of {', '.join(codes)} was another in some runs")
    notes += [f"{name} differs: {', '.join(values)}" for name, values in facts.items() if name.startswith("machine.")]
    for run in runs:
        if run.job.status != "FINISHED":
            reason = f": {run.job.reason.splitlines()[0]}" if run.job.reason else ""
            notes.append(f"{run.label} is {run.job.status}{reason}")
        elif run.best(metric) is None:
            notes.append(f"{run.label} has no {'finite ' * (metric in run.points)}{metric}")
        elif (last := run.last(metric)) is not None and not math.isfinite(last):
            notes.append(f"{run.label} ended with {metric} {last}")
    return notes
