"""Measure how times grow: with samples, with epochs, and with the runs in the store. Linear growth should look linear.

samples: an epoch over 10,000, 100,000 and 1,000,000 synthetic rows of 28x28 floats: the journal's time, the shortest of
three, in microseconds per row.

epochs: tracked runs of 1, 10, 100 and 1,000 tiny epochs, from start to exit in seconds; the milliseconds of an epoch in
each, by the times in its journal, including everything between two epochs; and the same for selected epochs of the
longest run.

runs: one tiny tracked run from start to exit, with 1, 10, 100 and 1,000 runs in the SQLite store and in the output
folder before it. Sweeps of the command line make these runs, as for a user.

--pairs is the number of times each whole process is timed, beside the warm-up; the median is reported.

`step` is a value divided by the one before it. --picture draws a plot of all three.

    python benchmarks/growth.py --picture growth.png
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.support import raw_journal

from experiments.runs import tables

if TYPE_CHECKING:
    from benchmarks import pairs
else:
    import pairs

EPOCHS = 4  # of a run over many samples; the first one warms up
AROUND = 20  # epochs, whose mean is the time of one epoch there
TINY = ["dataset=synthetic", "dataset.train=64", "dataset.valid=64", "limit_batches=1", "device.threads=1"]
Points = list[tuple[int, float]]


def main() -> None:
    """Print a table for each kind of growth."""
    parser = pairs.parser(__doc__, pairs=7, what="runs at each size of the store")
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="numbers of rows")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 10, 100, 1000], help="numbers of epochs")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 10, 100, 1000], help="numbers of runs in the store")
    parser.add_argument("--only", choices=["samples", "epochs", "runs"], help="only this one")
    parser.add_argument("--picture", type=Path, help="draw it here")
    options = parser.parse_args()
    content: dict[str, Any] = {}
    for name, measure in (("samples", with_samples), ("epochs", with_epochs), ("runs", with_runs)):
        if options.only in (None, name):
            with tempfile.TemporaryDirectory(prefix=f"growth-{name}-") as folder:
                content[name] = measure(options, Path(folder))
    pairs.keep(options.json, content)
    if options.picture:
        draw(content, options.picture)


def with_samples(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the microseconds of an epoch per row."""
    points: Points = []
    for size in sorted(options.samples):
        tracked(folder, ["dataset=synthetic", f"dataset.train={size}", f"epochs={EPOCHS}", "tracking=none"])
        epochs = newest(folder)["series"]["time/epoch_seconds"]
        points.append((size, 1e6 * min(epochs[1:]) / size))
    return table(points, "rows", "us a row")


def with_epochs(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return seconds of a run, milliseconds of an epoch in it, and of an epoch by its place in the longest run."""
    tracked(folder, [*TINY, "epochs=1"])  # creates the store
    seconds: dict[int, list[float]] = {}
    each: Points = []
    times: list[int] = []
    for number in sorted(options.epochs):
        seconds[number] = [tracked(folder, [*TINY, f"epochs={number}"]) for _ in range(options.pairs)]
        events = raw_journal.read(newest(folder)["folder"])
        times = [event["time"] for event in events if "train/loss" in event.get("values", ())]
        if number > 1:
            each.append((number, (times[-1] - times[0]) / (number - 1)))
    whole = table([(number, median(found)) for number, found in seconds.items()], "epochs", "s a run")
    middles = range(AROUND, len(times) - AROUND, max(len(times) // 10, 2 * AROUND))
    places = [(at, (times[at + AROUND] - times[at - AROUND]) / (2 * AROUND)) for at in middles]
    return {
        **table(each, "epochs", "ms an epoch"),
        "within": table(places, "epoch", "ms one there"),
        "whole": {**whole, "seconds": seconds},
    }


def with_runs(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the seconds of one more tracked run, by the number of runs in the store before it."""
    points, all_seconds, there = [], {}, 0
    for number in sorted(options.runs):
        while there < number:
            more = min(number - there, 1000)
            # All different, so that each has a separate run key among the outputs.
            sweep = ["-m", f"seed=range({there},{there + more})", "epochs=1", "figures=false"]
            pairs.python(["-m", "experiments", *sweep, *TINY], folder)
            pairs.settle(folder)
            there += more
        seconds = [tracked(folder, [*TINY, "epochs=1", "figures=false"]) for _ in range(options.pairs + 1)][1:]
        all_seconds[number] = seconds
        points.append((number, median(seconds)))
        there += len(seconds) + 1
    return {**table(points, "runs before", "s a run"), "seconds": all_seconds}


def tracked(folder: Path, arguments: Sequence[str]) -> float:
    """Return the seconds of the command line with these overrides, with no process of an earlier one beside it."""
    pairs.settle(folder)
    seconds = pairs.seconds(["-m", "experiments", *arguments], folder)
    pairs.settle(folder)
    return seconds


def newest(folder: Path) -> dict[str, Any]:
    """Return the summary of the run that started last."""
    return raw_journal.summary(max(folder.glob("outputs/runs/*/*")))


def table(points: Points, size: str, unit: str) -> dict[str, Any]:
    """Print sizes, values and steps; return the same for a file."""
    steps = ["", *(f"{b / a:.2f}" if a else "" for (_, a), (_, b) in pairwise(points))]
    rows = [
        {size: f"{number:,}", unit: f"{value:.3f}", "step": step}
        for (number, value), step in zip(points, steps, strict=True)
    ]
    print(tables.table(rows), end="\n\n", flush=True)
    return {"size": size, "unit": unit, "points": points}


def draw(content: dict[str, Any], path: Path) -> None:
    """Draw a small plot: a panel for each kind, sizes on a logarithmic axis, values from zero."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(content), 3), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(1, len(content), squeeze=False).flat, content.items(), strict=True):
        axes.plot(*zip(*found["points"], strict=True), marker="o", label=found["unit"])
        within = found.get("within")
        if within and within["points"]:
            axes.plot(*zip(*within["points"], strict=True), marker=".", label=within["unit"])
            axes.legend()
        axes.set(xscale="log", xlabel=found["size"], ylabel=found["unit"], title=name)
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
