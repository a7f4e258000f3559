"""The pictures of a run, drawn from its journal and pictures.npz: no torch, no model, no data set needed.

    python -m experiments.tracking.figures RUN_FOLDER

draws them again into RUN_FOLDER/figures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.tracking import record
from experiments.tracking.record import RunRecord

FOLDER = "figures"
PICTURES = "pictures.npz"
WEIGHTS = "weight_images.npz"


def draw(folder: Path) -> list[Path]:
    """Every picture that a run's folder has the numbers for; their files."""
    target = folder / FOLDER
    drawn: list[Path] = []

    def keep(name: str, figure: Figure) -> None:
        target.mkdir(exist_ok=True)
        figure.savefig(target / f"{name}.png")
        drawn.append(target / f"{name}.png")

    run = record.read(folder)
    if run.series("train/loss") and (folder / PICTURES).is_file():
        keep("loss_curves", _curves(run))
    if (folder / PICTURES).is_file():
        with np.load(folder / PICTURES, allow_pickle=False) as content:
            kept = {name: content[name] for name in content.files}
        names = [str(name) for name in kept["labels"]]
        keep("first_digit", _first(kept["digits"][0]))
        keep("digits", _grid(kept["digits"], lambda index: _label(names, kept["digit_labels"][index])))
        if "confusion" in kept:
            keep("confusion_matrix", _confusion(kept["confusion"], names))
        if len(kept.get("worst", ())):
            keep("worst_mistakes", _grid(kept["worst"], lambda index: _mistake(names, kept, index)))
    if (folder / WEIGHTS).is_file():
        with np.load(folder / WEIGHTS, allow_pickle=False) as content:
            for epoch, layer in enumerate(content["images"]):
                keep(f"weights_epoch_{epoch - 1}" if epoch else "weights_untrained", _layer(layer))
    return drawn


def _first(picture: np.ndarray) -> Figure:
    """The first picture, as the tutorial shows it."""
    figure = Figure(figsize=(3, 3), layout="constrained")
    _show(figure.subplots(), picture)
    return figure


def _grid(pictures: np.ndarray, title: Callable[[int], str]) -> Figure:
    columns = 5
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.75 * rows), layout="constrained")
    for index, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.axis("off")
        if index < len(pictures):
            _show(axes, pictures[index])
            axes.set_title(title(index), fontsize=9)
    return figure


def _show(axes: Any, picture: np.ndarray) -> None:
    axes.axis("off")
    if len(picture) == 3:  # red, green, blue
        spread = max(float(np.ptp(picture)), 1e-12)
        axes.imshow((picture.transpose(1, 2, 0) - picture.min()) / spread)
    else:
        axes.imshow(picture[0], cmap="gray")


def _curves(run: RunRecord) -> Figure:
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name in ("train/loss", "valid/loss"):
        axes.plot(run.series(name), marker="o", markersize=3, label=name)
    axes.axhline(run.figures["untrained/valid_loss"], color="gray", linestyle=":", label="untrained/valid_loss")
    axes.set(xlabel="epoch", ylabel="loss", title=run.start.name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _confusion(counts: np.ndarray, names: list[str]) -> Figure:
    size = len(counts)
    figure = Figure(figsize=(2.5 + 0.45 * size, 2 + 0.45 * size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.log1p(counts), cmap="Blues")
    ticks = names or [str(index) for index in range(size)]
    axes.set_xticks(range(size), ticks, rotation=0 if max(map(len, ticks)) < 3 else 60)  # fits flat
    axes.set_yticks(range(size), ticks)
    axes.set(xlabel="predicted", ylabel="true")
    for row, column in np.argwhere(counts):
        dark = np.log1p(counts[row, column]) > np.log1p(counts.max()) / 2
        axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=7, color="w" if dark else "k")
    return figure


def _layer(weights: np.ndarray) -> Figure:
    """Templates (n, features) of square pictures, or filters (n, channels, height, width), up to 25."""
    if weights.ndim == 2:  # rows of features
        side = round(weights.shape[1] ** 0.5)
        if side * side != weights.shape[1]:
            return _grid(weights[:, None, None, :], str)
        weights = weights.reshape(len(weights), 1, side, side)
    return _grid(weights[:25, :1] if weights.shape[1] != 3 else weights[:25], str)  # colours


def _label(names: list[str], label: Any) -> str:
    if names:
        return names[int(label)]
    return str(label) if np.ndim(label) == 0 else ", ".join(f"{value:.2g}" for value in label)


def _mistake(names: list[str], kept: Mapping[str, np.ndarray], index: int) -> str:
    true, predicted = _label(names, kept["worst_true"][index]), _label(names, kept["worst_predicted"][index])
    return f"{true} read as {predicted}\n({kept['worst_probability'][index]:.0%} sure)"


if __name__ == "__main__":
    for file in draw(Path(sys.argv[1])):
        print(file)
