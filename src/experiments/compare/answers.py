"""What a comparison comes to, for programs: the record of `--json`, verdicts against a baseline, their exit code."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from experiments.compare import seeds
from experiments.compare.comparison import Comparison, Run
from experiments.compare.differences import is_seed
from experiments.compare.seeds import Verdict
from experiments.config.language import Language
from experiments.errors import ConfigError, Fault

WORDS = {1: "improved", -1: "worse", 0: "cannot tell"}


@dataclass(frozen=True)
class ComparedGroup:
    """Runs that differ by seed alone.

    Args:
        label: distinguishes them from the other groups.
        seeds: how many runs finished, each with another seed.
        mean: of their best values; None without any.
        sd: their standard deviation; None of fewer than two.
        values: the best value by seed.
    """

    label: str
    seeds: int
    mean: float | None
    sd: float | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class Candidate:
    """A group against the first one.

    Args:
        label: that of the group.
        verdict: improved, worse or cannot tell.
        difference: of the means, this group's minus the first's; None, as the next four, where one of the two has
            fewer than two seeds.
        low: the lower end of the interval of the difference.
        high: the upper end.
        level: of the interval, corrected for the number of candidates.
        method: of that correction.
        seeds: of the smaller group.
        paired: whether runs with the same seed were compared in pairs.
        more_seeds: about how many more seeds would decide a difference of this size; None where decided or unknown.
    """

    label: str
    verdict: str
    difference: float | None
    low: float | None
    high: float | None
    level: float | None
    method: str | None
    seeds: int
    paired: bool
    more_seeds: int | None


@dataclass(frozen=True)
class ComparedRun:
    """A run, and where it was best.

    Args:
        folder: the run's.
        label: distinguishes it from the others.
        group: the label of its group.
        status: FINISHED, PAUSED, FAILED, KILLED or RUNNING.
        best: its best value; None without a finite one.
        epoch: of that, from 0.
    """

    folder: Path
    label: str
    group: str
    status: str
    best: float | None
    epoch: int | None


@dataclass(frozen=True)
class ComparisonAnswer:
    """A comparison.

    Args:
        metric: by which it is.
        mode: min or max: which end of it is best.
        min_effect: what a candidate has to differ by, in the metric's units.
        groups: of runs that differ by seed alone, the first one the baseline.
        candidates: the other groups, each against the first one.
        runs: all of them.
        files: that were written.
    """

    metric: str
    mode: str
    min_effect: float
    groups: Sequence[ComparedGroup]
    candidates: Sequence[Candidate]
    runs: Sequence[ComparedRun]
    files: Sequence[Path]


def answer(comparison: Comparison, files: Sequence[Path]) -> ComparisonAnswer:
    """Return the record of a comparison that wrote these files."""
    metric, found = comparison.metric, seeds.groups(comparison)
    groups = []
    for group in found:
        values = {_seed(run): best[1] for run in group.runs if (best := run.best(metric))}
        mean, sd = fmean(values.values()) if values else None, stdev(values.values()) if len(values) > 1 else None
        groups.append(ComparedGroup(group.label, len(values), mean, sd, values))
    candidates = [_candidate(verdict) for verdict in seeds.verdicts(found, metric)]
    runs = [_run(run, metric) for run in comparison.runs]
    mode = comparison.runs[0].modes[metric]
    return ComparisonAnswer(metric, mode, comparison.least, groups, candidates, runs, files)


def check_groups(comparison: Comparison, named: Sequence[tuple[str, Collection[Path]]]) -> list[str]:
    """Check that the first name's runs are one group, and that each other name has another; return what to note.

    Raises:
        ConfigError: they are not.
    """
    groups = [
        (name, list(dict.fromkeys(run.group for run in comparison.runs if run.job.folder in folders)))
        for name, folders in named
    ]
    (name, baseline), *others = groups
    if len(baseline) > 1:
        problem = f"a baseline is one group of runs that differ by seed alone; these are: {'; '.join(baseline)}"
        raise ConfigError(Fault(f"--baseline {name}", problem))
    for other, labels in others:
        if labels == baseline:
            problem = f"its runs are of the baseline's own group, {labels[0]}: they differ by seed alone"
            raise ConfigError(Fault(other, problem))
    joining = [other for other, labels in others if baseline[0] in labels]
    return [comparison.say("runs of {name} with the baseline's settings count as its seeds", name=n) for n in joining]


def lines(comparison: Comparison) -> list[str]:
    """Return the verdict on each candidate in words."""
    found, say = seeds.groups(comparison), comparison.say
    key = seeds.counted(comparison.over, say)
    return [f"{each.label}: {_words(each, key, say)}" for each in seeds.verdicts(found, comparison.metric, say)]


def exit_code(comparison: Comparison) -> int:
    """Return 0 where a candidate is improved, else 3 where more seeds are needed to tell, else 1: all are worse."""
    directions = {each.direction for each in seeds.verdicts(seeds.groups(comparison), comparison.metric)}
    return 0 if 1 in directions else 3 if 0 in directions else 1


def _words(verdict: Verdict, key: str, say: Language) -> str:
    if verdict.direction:
        return say("improved") if verdict.direction > 0 else say("worse")
    if (found := verdict.difference) is None:
        reason = verdict.text
    elif count := _more(verdict):
        reason = say("about {count} more {key}s", count=count, key=key)
    else:
        counts = abs(found.estimate) > found.least
        reason = say("more than 100 needed") if counts else say("no difference that counts")
    return say("cannot tell ({reason})", reason=reason)


def _more(verdict: Verdict) -> int | None:
    """Return about how many more seeds would decide a difference of this size; None where that is not known."""
    found = verdict.difference
    return None if found is None or verdict.direction or not found.needed else max(1, found.needed - found.runs)


def _candidate(verdict: Verdict) -> Candidate:
    word, found = WORDS[verdict.direction], verdict.difference
    if found is None:
        return Candidate(verdict.label, word, None, None, None, None, None, 0, False, None)
    numbers = (found.estimate, found.low, found.high, found.level)
    return Candidate(verdict.label, word, *numbers, "Holm", found.runs, verdict.paired, _more(verdict))


def _run(run: Run, metric: str) -> ComparedRun:
    epoch, best = run.best(metric) or (None, None)
    return ComparedRun(run.job.folder, run.label, run.group, run.job.status, best, epoch)


def _seed(run: Run) -> str:
    """Return what distinguishes a run from the others of its group: `seed=1`."""
    values = {key: value for key, value in run.settings.items() if is_seed(key) or key in run.over}
    values = values or {"seed": run.job.start.params.get("seed", "")}
    return ", ".join(f"{key}={value}" for key, value in values.items())
