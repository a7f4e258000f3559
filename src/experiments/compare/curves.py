"""The curves of a comparison as a plot, by epoch, by training rows seen or by seconds."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.compare.comparison import Comparison, Run
from experiments.errors import ConfigError, Fault

AXES = {"epoch": "epoch", "samples": "training rows seen", "seconds": "seconds of training and validation"}
# Okabe and Ito's colours, distinct to everybody, without the yellow that is hard to see on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST = len(COLOURS) * len(STYLES)  # each curve has a colour and style of its own
WIDTH = 26  # characters of a line in the legend, of which two columns fit below a panel
LINES = 4

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """A curve of a plot.

    Its `names` are the labels of all runs or groups with these values.
    """

    names: list[str]
    runs: Sequence[Run]

    @property
    def label(self) -> str:
        """Return the names for matplotlib, which would read `$` as a formula and leave out a leading `_`."""
        text = textwrap.fill(" = ".join(self.names), WIDTH, max_lines=LINES, placeholder=" ...")
        return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def points(run: Run, metric: str, axis: str) -> Points:
    """Return a metric's values, each with its place on the axis.

    Raises:
        ConfigError: the run's journal lacks the number of training rows.
    """
    values = sorted(run.points(metric).items())
    if axis == "epoch" or not values:
        return [(epoch, value) for epoch, value in values]
    if axis == "seconds":
        spent = run.points("time/epoch_seconds")
        return [(sum(seconds for at, seconds in spent.items() if at <= epoch), value) for epoch, value in values]
    rows = _rows_an_epoch(run)
    return [((epoch + 1) * rows, value) for epoch, value in values]


def png(comparison: Comparison, axis: str, path: Path) -> None:
    """Write all metrics side by side into a file."""
    figure(comparison, comparison.metrics, axis).savefig(path, dpi=130, format="png")


def svg(comparison: Comparison, metric: str, axis: str) -> str:
    """Return one metric as an element for a page; text is drawn as outlines, so that it looks alike everywhere."""
    written = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure(comparison, [metric], axis).savefig(written, format="svg", metadata=no_metadata, transparent=True)
    text = written.getvalue()
    return text[text.index("<svg") :]


def curves(comparison: Comparison, axis: str) -> list[Curve]:
    """Return what is drawn: a curve for each group and for groups with the same values; of too many, the best."""
    members: dict[str, list[Run]] = {}
    for run in comparison.runs:
        if run.best(comparison.metric):
            members.setdefault(run.group, []).append(run)
    found: dict[Hashable, Curve] = {}
    for group, runs in members.items():
        name = runs[0].label if len(runs) == 1 else f"{group} ({comparison.say('mean of {count}', count=len(runs))})"
        key: Hashable = group
        if axis != "seconds":
            lines = [points(run, metric, axis) for run in runs for metric in comparison.metrics]
            key = tuple(tuple((x, f"{y:.6g}") for x, y in line) for line in lines)  # the order of additions may differ
        found.setdefault(key, Curve([], runs)).names.append(name)
    first, *others = found.values()
    others = sorted(others, key=lambda curve: min(comparison.rank(run) for run in curve.runs))[: MOST - 1]
    return [curve for curve in found.values() if curve is first or curve in others]


def figure(comparison: Comparison, metrics: Sequence[str], axis: str) -> Figure:
    """Draw a panel for each metric, with the legend below them."""
    drawn = curves(comparison, axis)
    columns = len(metrics) if len(drawn) < 4 else 2 * len(metrics)
    heights = [curve.label.count("\n") + 1 for curve in drawn]
    lines = sum(max(heights[at : at + columns]) for at in range(0, len(drawn), columns))
    drawing = Figure(figsize=(5.2 * len(metrics), 3.2 + 0.19 * lines), layout="constrained")
    for axes, metric in zip(drawing.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        _draw(axes, drawn, metric, axis, comparison.say(AXES[axis]))
    entries = {
        label: line for axes in drawing.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    look: dict[str, Any] = {"fontsize": 8, "frameon": False, "handlelength": 3.5, "ncols": columns}
    drawing.legend(entries.values(), entries.keys(), loc="outside lower center", **look)
    if len(drawn) == MOST:
        drawing.suptitle(comparison.say("{count} curves: the first and the best", count=MOST), fontsize=9)
    return drawing


def _draw(axes: Axes, drawn: Sequence[Curve], metric: str, axis: str, name: str) -> None:
    """Draw a line for each curve; of a group of seeds, thin ones and their mean."""
    for number, curve in enumerate(drawn):
        look: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": STYLES[number // len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
        }
        lines = [line for run in curve.runs if (line := points(run, metric, axis))]
        for line in lines if len(lines) > 1 else ():
            axes.plot(*zip(*line, strict=True), **look | {"marker": ""}, linewidth=0.7, alpha=0.4)
        if lines:
            axes.plot(*zip(*_mean(lines), strict=True), **look, markersize=4, linewidth=1.6, label=curve.label)
    axes.set(xlabel=name, ylabel=metric)
    if axis == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _mean(lines: Sequence[Points]) -> Points:
    """Return the mean line over the epochs that all lines have."""
    return [(fmean(x for x, _ in column), fmean(y for _, y in column)) for column in zip(*lines, strict=False)]


def _rows_an_epoch(run: Run) -> int:
    start = run.job.start
    if not start.data:
        problem = f"the journal of {run.label} lacks the number of its rows; use --axis epoch"
        raise ConfigError(Fault("--axis samples", problem))
    rows, limit = int(start.data["sizes"]["train"]), start.params.get("limit_batches", "null")
    return rows if limit == "null" else min(rows, int(limit) * int(start.params["loader.batch_size"]))
