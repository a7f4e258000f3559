"""The table of a comparison: a row a run, with only what differs."""

from __future__ import annotations

from collections.abc import Callable

from experiments.compare import seeds
from experiments.compare.comparison import Comparison, Run
from experiments.compare.seeds import figure

# Of a figure, what the order of additions can change.
ROUNDING = 1e-6


def rows(comparison: Comparison) -> list[dict[str, str]]:
    """A row a run; a run that has no figure has a dash."""
    all_ended = all(run.job.status == "FINISHED" for run in comparison.runs)
    table = []
    for run in comparison.runs:
        row = {"run": str(run.job.job), **run.settings}
        for metric in comparison.metrics:
            best, last = run.best(metric), run.last(metric)
            told = ["-" if value is None else figure(value) for value in (best and best[1], last)]
            if all(other.best(metric) is None or other.best_is_last(metric) for other in comparison.runs):
                row[f"best = last\n{metric}"] = told[0]
            else:
                row |= {f"best\n{metric}": told[0], f"last\n{metric}": told[1]}
        row["seconds"] = f"{run.seconds:.1f}"
        row["against\nthe first"] = change(comparison.runs[0], run, comparison.metric)
        table.append(row if all_ended else row | {"status": run.job.status})
    return table


def change(first: Run, run: Run, metric: str) -> str:
    """How far a run's best value is from the first run's, in numbers and percent, and marked where it is better."""
    ours, theirs = run.best(metric), first.best(metric)
    if run is first or ours is None or theirs is None:
        return "-"
    difference = ours[1] - theirs[1]
    if difference == 0:
        return "the same"
    if abs(difference) < ROUNDING * abs(theirs[1]):
        return f"same but for {abs(difference):.0e}"
    told = f"{'+' if difference > 0 else '-'}{figure(abs(difference))}"
    if theirs[1]:
        told += f" ({difference / abs(theirs[1]):+.1%})"
    return f"{told} better" if (difference > 0) == (run.sign(metric) < 0) else told


def headline(comparison: Comparison, shown: Callable[[float], str] = repr) -> str:
    """The answer in a sentence: which is best, by how much, against what.

    Args:
        comparison: what is shown.
        shown: how its figure is written; by itself in full.
    """
    if seeds.repeated(groups := seeds.groups(comparison)):
        return seeds.headline(groups, comparison.metric)
    best, metric = comparison.best, comparison.metric
    found = best.best(metric)
    assert found is not None
    told = f"best: {best.label}, {metric} {shown(found[1])} at epoch {found[0]}"
    against = change(comparison.runs[0], best, metric)
    if not against.endswith(" better"):
        return told
    return f"{told}; {against.removesuffix(' better')} against the first, {comparison.runs[0].label}"
