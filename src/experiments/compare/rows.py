"""The table of a comparison: a row for each run, with only the settings that differ, and the answer in a sentence."""

from __future__ import annotations

from collections.abc import Callable

from experiments.compare import seeds
from experiments.compare.comparison import Comparison, Run
from experiments.compare.seeds import ROUNDING, rounded, signed
from experiments.config.language import ENGLISH, Language
from experiments.tracking.record import PARAMETERS


def rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row for each run; a dash stands for a missing value."""
    say = comparison.say
    all_finished = all(run.job.status == "FINISHED" for run in comparison.runs)
    sizes = [_parameters(run) for run in comparison.runs]
    table = []
    for run, size in zip(comparison.runs, sizes, strict=True):
        row = {say("run"): str(run.job.job), **run.settings}
        if len(set(sizes)) > 1:
            row[say("parameters")] = size
        if any(other.behind for other in comparison.runs):
            row[say("epochs\nbefore")] = run.behind or "0"
        for metric in comparison.metrics:
            best, last = run.best(metric), run.last(metric)
            if all(_best_is_last(other, metric) for other in comparison.runs):
                row[say("best\n= last\n{metric}", metric=metric)] = _shown(best and best[1])
            else:
                row[say("best\n{metric}", metric=metric)] = _shown(best and best[1])
                row[say("last\n{metric}", metric=metric)] = _shown(last)
        row[say("seconds")] = f"{sum(run.job.series('time/epoch_seconds')):.1f}"
        row[say("minus\nthe first")] = change(comparison.runs[0], run, comparison.metric, say)
        table.append(row if all_finished else row | {say("status"): run.job.status})
    return table


def change(first: Run, run: Run, metric: str, say: Language = ENGLISH) -> str:
    """Return a run's best value minus the first run's, in numbers and percent: from one seed each, no verdict."""
    ours, theirs = run.best(metric), first.best(metric)
    if run is first or ours is None or theirs is None:
        return "-"
    difference = ours[1] - theirs[1]
    if difference == 0:
        return say("the same")
    if abs(difference) < ROUNDING * max(abs(ours[1]), abs(theirs[1])):
        return say("same to {difference}", difference=f"{abs(difference):.0e}")
    return signed(difference) + (f" ({difference / abs(theirs[1]):+.1%})" if theirs[1] else "")


def headline(comparison: Comparison, shown: Callable[[float], str] = repr) -> str:
    """Return the answer in a sentence: which run has the best value, as `shown`, and its difference from the first."""
    say, metric = comparison.say, comparison.metric
    if seeds.repeated(groups := seeds.groups(comparison)):
        return seeds.headline(groups, metric, say)
    best, first = comparison.best, comparison.runs[0]
    found = best.best(metric)
    assert found is not None
    leading = say("lowest {metric}" if best.sign(metric) > 0 else "highest {metric}", metric=metric)
    answer = f"{leading}: {best.label}, {say('{value} at epoch {epoch}', value=shown(found[1]), epoch=found[0])}"
    against = change(first, best, metric, say)
    if len(against) == 1 or against[0] not in "+-":
        return answer
    return f"{answer}; {against} {say('against the first, {label}', label=first.label)}"


def _shown(value: float | None) -> str:
    return "-" if value is None else rounded(value)


def _parameters(run: Run) -> str:
    size = run.job.start.tags.get(PARAMETERS, "") if run.job.started else ""
    return f"{int(size):,}" if size else "-"


def _best_is_last(run: Run, metric: str) -> bool:
    best = run.best(metric)
    return best is None or best[1] == run.last(metric)
