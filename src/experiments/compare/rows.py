"""The table of a comparison: a row for each run, with only the settings that differ, and the answer in a sentence."""

from __future__ import annotations

from collections.abc import Callable

from experiments.compare import seeds
from experiments.compare.comparison import Comparison, Run
from experiments.compare.seeds import rounded

ROUNDING = 1e-6  # the part of a value that the order of additions can change


def rows(comparison: Comparison) -> list[dict[str, str]]:
    """Return a row for each run; a dash stands for a missing value."""
    all_finished = all(run.job.status == "FINISHED" for run in comparison.runs)
    table = []
    for run in comparison.runs:
        row = {"run": str(run.job.job), **run.settings}
        for metric in comparison.metrics:
            best, last = run.best(metric), run.last(metric)
            if all(_best_is_last(other, metric) for other in comparison.runs):
                row[f"best = last\n{metric}"] = _shown(best and best[1])
            else:
                row |= {f"best\n{metric}": _shown(best and best[1]), f"last\n{metric}": _shown(last)}
        row["seconds"] = f"{sum(run.job.series('time/epoch_seconds')):.1f}"
        row["against\nthe first"] = change(comparison.runs[0], run, comparison.metric)
        table.append(row if all_finished else row | {"status": run.job.status})
    return table


def change(first: Run, run: Run, metric: str) -> str:
    """Return how far a run's best value is from the first run's, in numbers and percent, marked where it is better."""
    ours, theirs = run.best(metric), first.best(metric)
    if run is first or ours is None or theirs is None:
        return "-"
    difference = ours[1] - theirs[1]
    if difference == 0:
        return "the same"
    if abs(difference) < ROUNDING * abs(theirs[1]):
        return f"same but for {abs(difference):.0e}"
    text = f"{'+' if difference > 0 else '-'}{rounded(abs(difference))}"
    if theirs[1]:
        text += f" ({difference / abs(theirs[1]):+.1%})"
    return f"{text} better" if (difference > 0) == (run.sign(metric) < 0) else text


def headline(comparison: Comparison, shown: Callable[[float], str] = repr) -> str:
    """Return the answer in a sentence: which run is best, its value as `shown`, and by how much against the first."""
    if seeds.repeated(groups := seeds.groups(comparison)):
        return seeds.headline(groups, comparison.metric)
    best, first, metric = comparison.best, comparison.runs[0], comparison.metric
    found = best.best(metric)
    assert found is not None
    answer = f"best: {best.label}, {metric} {shown(found[1])} at epoch {found[0]}"
    against = change(first, best, metric)
    if not against.endswith(" better"):
        return answer
    return f"{answer}; {against.removesuffix(' better')} against the first, {first.label}"


def _shown(value: float | None) -> str:
    return "-" if value is None else rounded(value)


def _best_is_last(run: Run, metric: str) -> bool:
    best = run.best(metric)
    return best is None or best[1] == run.last(metric)
