"""The plot of `benchmarks/peers.py`: how much longer an epoch of each contender takes than one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS, REST = "#1f77b4", "#b8bfc6"
TITLES = {"logistic": "logistic regression", "cnn_adaptive": "three convolutions"}


def draw(kept: Mapping[str, Any], titles: Mapping[str, str], path: Path) -> None:
    """Draw one panel per model.

    Args:
        kept: the results that the benchmark keeps.
        titles: of the contenders, by name; `ours` is this package's.
        path: of the image file.
    """
    models = kept["models"]
    most = max(len(found) for found in models.values())
    figure = Figure(figsize=(5.2 * len(models) + 0.6, 0.36 * most + 1.5), layout="constrained")
    for panel, (model, found) in zip(figure.subplots(1, len(models), squeeze=False)[0], models.items(), strict=True):
        _panel(panel, found, titles)
        panel.set_title(TITLES.get(model, model), fontsize=11)
    machine = kept["machine"]
    pairs = {len(value["pairs"]) for found in models.values() for value in found.values() if "pairs" in value}
    figure.supxlabel(
        "An epoch on MNIST with its validation, its time / ours: the median of "
        f"{' or '.join(map(str, sorted(pairs)))} pairs, the line from the least to the most.\n"
        f"{machine['cores']} cores ({machine['processor']}), torch {kept['versions']['torch']}.",
        fontsize=8,
        color="#444444",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _panel(panel: Axes, found: Mapping[str, Any], titles: Mapping[str, str]) -> None:
    ratios = {name: [1.0] for name in found if name == "ours"}
    ratios |= {name: [p["it"] / p["ours"] for p in value["pairs"]] for name, value in found.items() if "pairs" in value}
    names = sorted(ratios, key=lambda name: median(ratios[name]), reverse=True)
    middles = [median(ratios[name]) for name in names]
    panel.barh(range(len(names)), middles, color=[OURS if name == "ours" else REST for name in names], height=0.72)
    for row, (name, middle) in enumerate(zip(names, middles, strict=True)):
        low, high = min(ratios[name]), max(ratios[name])
        if high > low:
            panel.plot([low, high], [row, row], color="#333333", linewidth=1.2, solid_capstyle="butt")
        text = "1" if name == "ours" else f"{middle:.2f}"
        at = max(1.0, high)  # right of the dotted line
        panel.annotate(text, (at, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    panel.set_yticks(range(len(names)), [titles[name] for name in names], fontsize=9)
    for label, name in zip(panel.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == "ours" else "normal")
    panel.axvline(1, color=OURS, linewidth=0.8, linestyle=":")
    panel.set_xlim(0, 1.12 * max(max(values) for values in ratios.values()))
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(axis="x", labelsize=8)
