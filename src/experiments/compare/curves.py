"""The curves of a comparison as a picture, by epoch, by samples seen or by seconds."""

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

from experiments.compare.comparison import Comparison, Points, Run
from experiments.errors import ConfigError, Fault

AXES = {"epoch": "epoch", "samples": "training rows seen", "seconds": "seconds of training and validation"}
# Okabe and Ito's colours, which nobody confuses, without the yellow that white paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST = len(COLOURS) * len(STYLES)  # more curves cannot be told apart
WIDTH = 44  # letters of a line in the legend
LINES = 3


@dataclass(frozen=True)
class Curve:
    """What one line shows.

    Args:
        names: of all whose figures these are.
        runs: those that it is drawn from.
    """

    names: list[str]
    runs: Sequence[Run]

    @property
    def label(self) -> str:
        """The names as letters, for matplotlib reads formulas, and leaves out what begins with _."""
        text = textwrap.fill(" = ".join(self.names), WIDTH, max_lines=LINES, placeholder=" ...")
        return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def positions(run: Run, metric: str, axis: str) -> Points:
    """Where on the axis each epoch's value stands.

    Raises:
        ConfigError: the run's journal does not tell.
    """
    points = run.points.get(metric, {})
    if axis == "epoch" or not points:
        return {epoch: epoch for epoch in points}
    if axis == "seconds":
        spent = run.points.get("time/epoch_seconds", {})
        return {epoch: sum(seconds for at, seconds in spent.items() if at <= epoch) for epoch in points}
    rows = _rows_an_epoch(run)
    return {epoch: (epoch + 1) * rows for epoch in points}


def png(comparison: Comparison, axis: str, path: Path) -> None:
    """All metrics side by side, as a file."""
    _figure(comparison, comparison.metrics, axis).savefig(path, dpi=130, format="png")


def svg(comparison: Comparison, metric: str, axis: str) -> str:
    """One metric as an element for a page: letters are drawn, so that they look alike everywhere."""
    written = io.StringIO()
    nothing_more = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    _figure(comparison, [metric], axis).savefig(written, format="svg", metadata=nothing_more, transparent=True)
    text = written.getvalue()
    return text[text.index("<svg") :]


def _figure(comparison: Comparison, metrics: Sequence[str], axis: str) -> Figure:
    """A panel a metric, and below them what is which."""
    drawn = curves(comparison, axis)
    columns = len(metrics) if len(drawn) < 4 else 2 * len(metrics)
    lines = sum(max(map(_lines, drawn[at : at + columns])) for at in range(0, len(drawn), columns))
    figure = Figure(figsize=(5.2 * len(metrics), 3.2 + 0.19 * lines), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        _draw(axes, drawn, metric, axis)
    entries = {
        label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    look: dict[str, Any] = {"fontsize": 8, "frameon": False, "handlelength": 3.5, "ncols": columns}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", **look)
    if len(drawn) == MOST:
        figure.suptitle(f"{MOST} curves: the first and the best", fontsize=9)
    return figure


def curves(comparison: Comparison, axis: str) -> list[Curve]:
    """What is drawn: runs that differ by seed alone share a curve, and so do those whose figures are the same."""
    members: dict[str, list[Run]] = {}
    for run in comparison.runs:
        if run.best(comparison.metric):
            members.setdefault(run.group, []).append(run)
    found: dict[Hashable, Curve] = {}
    for group, runs in members.items():
        name = runs[0].label if len(runs) == 1 else f"{group} (mean of {len(runs)})"
        key: Hashable = group
        if axis != "seconds":
            key = tuple(_figures(run, metric, axis) for run in runs for metric in comparison.metrics)
        found.setdefault(key, Curve([], runs)).names.append(name)
    first, *others = found.values()
    others = sorted(others, key=lambda curve: min(comparison.rank(run) for run in curve.runs))[: MOST - 1]
    return [curve for curve in found.values() if curve is first or curve in others]


def _figures(run: Run, metric: str, axis: str) -> Hashable:
    """What stands where, but for what the order of additions can change."""
    where = positions(run, metric, axis)
    return tuple((where[epoch], f"{value:.6g}") for epoch, value in run.points.get(metric, {}).items())


def _rows_an_epoch(run: Run) -> int:
    start = run.job.start
    if not start.data:
        raise ConfigError(Fault("--axis samples", f"the journal of {run.label} does not tell its rows; --axis epoch"))
    rows, params = int(start.data["sizes"]["train"]), start.params
    limit = params.get("limit_batches", "null")
    return rows if limit == "null" else min(rows, int(limit) * int(params["loader.batch_size"]))


def _draw(axes: Axes, drawn: Sequence[Curve], metric: str, axis: str) -> None:
    """A line a curve; of runs that differ by seed alone, thin ones and their mean."""
    for number, curve in enumerate(drawn):
        look: dict[str, Any] = {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": STYLES[number // len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
        }
        lines = [_line(run, metric, axis) for run in curve.runs if run.points.get(metric)]
        for x, y in lines if len(lines) > 1 else ():
            axes.plot(x, y, **look | {"marker": ""}, linewidth=0.7, alpha=0.4)
        if lines:
            axes.plot(*_mean(lines), **look, markersize=4, linewidth=1.6, label=curve.label)
    axes.set(xlabel=AXES[axis], ylabel=metric)
    if axis == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _lines(curve: Curve) -> int:
    return curve.label.count("\n") + 1


def _line(run: Run, metric: str, axis: str) -> tuple[list[float], list[float]]:
    where, points = positions(run, metric, axis), run.points[metric]
    return [where[epoch] for epoch in sorted(points)], [points[epoch] for epoch in sorted(points)]


def _mean(lines: Sequence[tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
    """Over the epochs that all of them have."""
    columns = range(min(len(x) for x, _ in lines))
    return [fmean(x[at] for x, _ in lines) for at in columns], [fmean(y[at] for _, y in lines) for at in columns]
