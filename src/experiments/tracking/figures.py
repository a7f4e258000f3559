"""The plots of a run, drawn from its journal and pictures.npz: no torch, no model, no dataset needed.

    python -m experiments.tracking.figures RUN_FOLDER

draws them again into RUN_FOLDER/figures.
"""

from __future__ import annotations

import io
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.config.language import ENGLISH, Language
from experiments.errors import warned
from experiments.tracking import record

log = logging.getLogger(__name__)

FOLDER = "figures"
PICTURES = "pictures.npz"
WEIGHTS = "weight_images.npz"
COLUMNS = 5


def draw(folder: Path) -> list[Path]:
    """Draw every plot that a run's folder has the numbers for, and return their files; warn of one that fails."""
    drawn = []
    with warned(log, "plots"):
        for name, plot in _plots(folder):
            with warned(log, f"plot {name}"):
                path = folder / FOLDER / f"{name}.png"
                path.parent.mkdir(exist_ok=True)
                plot().savefig(path)
                drawn.append(path)
    return drawn


def arrays(path: Path) -> Mapping[str, np.ndarray]:
    """Return the arrays of an .npz file; empty where there is no file."""
    if not path.is_file():
        return {}
    # Opened here, since numpy leaves a file open that it cannot read.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        return dict(content)


def pixels(image: np.ndarray) -> np.ndarray:
    """Return an image (channels, height, width) as pixels from 0 to 1: (height, width, 3), or (height, width)."""
    scaled = (image - image.min()) / max(float(np.ptp(image)), 1e-12)
    return np.ascontiguousarray(scaled.transpose(1, 2, 0)) if len(image) == 3 else scaled[0]


def label(names: Sequence[str], target: np.ndarray) -> str:
    """Return a target's class name; without names, its number or its first values; of an image, nothing."""
    if np.ndim(target) == 0:
        return names[int(target)] if names else str(target)
    more = f" ... {len(target)}" if len(target) > COLUMNS else ""
    return ", ".join(f"{value:.2g}" for value in target[:COLUMNS]) + more if np.ndim(target) == 1 else ""


def _plots(folder: Path) -> Iterator[tuple[str, Callable[[], Figure]]]:
    kept, say = arrays(folder / PICTURES), Language.of(folder)
    if kept:
        run = record.read(folder)
        if run.series("train/loss"):
            yield "loss_curves", partial(losses, run.history, run.figures, run.start.name, say)
        names = [str(name) for name in kept["labels"]]
        if "digits" in kept:
            yield "first_digit", partial(_first, kept["digits"][0])
            yield "digits", partial(_grid, kept["digits"], lambda index: label(names, kept["digit_labels"][index]))
        if "confusion" in kept:
            yield "confusion_matrix", partial(_confusion, kept["confusion"], names, say)
        if len(kept.get("worst", ())):
            yield "worst_mistakes", partial(_grid, kept["worst"], lambda index: _mistake(names, kept, index, say))
    for epoch, layer in enumerate(arrays(folder / WEIGHTS).get("images", ())):
        yield f"weights_epoch_{epoch - 1}" if epoch else "weights_untrained", partial(_layer, layer)


def _first(image: np.ndarray) -> Figure:
    """Draw the first image as the tutorial shows it."""
    figure = Figure(figsize=(3, 3), layout="constrained")
    _show(figure.subplots(), image)
    return figure


def _grid(images: np.ndarray, title: Callable[[int], str]) -> Figure:
    rows = -(-len(images) // COLUMNS)
    figure = Figure(figsize=(1.5 * COLUMNS, 1.75 * rows), layout="constrained")
    for index, axes in enumerate(figure.subplots(rows, COLUMNS, squeeze=False).flat):
        axes.axis("off")
        if index < len(images):
            _show(axes, images[index])
            axes.set_title(title(index), fontsize=9)
    return figure


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.axis("off")
    axes.imshow(pixels(image) if len(image) == 3 else image[0], cmap="gray")


class Shown(Figure):
    """A figure that a notebook shows, without pyplot too."""

    def _repr_png_(self) -> bytes:
        self.savefig(png := io.BytesIO(), format="png")
        return png.getvalue()


def losses(
    history: Sequence[Mapping[str, float]], untrained: Mapping[str, float], title: str = "", say: Language = ENGLISH
) -> Figure:
    """Draw the losses of each epoch."""
    figure = Shown(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name in ("train/loss", "valid/loss"):
        axes.plot([epoch.get(name, math.nan) for epoch in history], marker="o", markersize=3, label=name)
    if (before := untrained.get("untrained/valid_loss")) is not None:
        axes.axhline(before, color="gray", linestyle=":", label="untrained/valid_loss")
    axes.set(xlabel=say("epoch"), ylabel=say("loss"), title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _confusion(counts: np.ndarray, names: Sequence[str], say: Language) -> Figure:
    size = len(counts)
    figure = Figure(figsize=(2.5 + 0.45 * size, 2 + 0.45 * size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.log1p(counts), cmap="Blues")
    ticks = names or [str(index) for index in range(size)]
    axes.set_xticks(range(size), ticks, rotation=0 if max(map(len, ticks)) < 3 else 60)  # short names fit flat
    axes.set_yticks(range(size), ticks)
    axes.set(xlabel=say("predicted"), ylabel=say("true"))
    for row, column in np.argwhere(counts):
        dark = np.log1p(counts[row, column]) > np.log1p(counts.max()) / 2
        axes.text(column, row, counts[row, column], ha="center", va="center", fontsize=7, color="w" if dark else "k")
    return figure


def _layer(weights: np.ndarray) -> Figure:
    """Draw templates (n, features) of square images, or filters (n, channels, height, width), up to 25."""
    if weights.ndim == 2:
        side = round(weights.shape[1] ** 0.5)
        if side * side != weights.shape[1]:
            return _grid(weights[:, None, None, :], str)  # each template as one row
        weights = weights.reshape(len(weights), 1, side, side)
    channels = 3 if weights.shape[1] == 3 else 1  # colours, or the first channel
    return _grid(weights[:25, :channels], str)


def _mistake(names: Sequence[str], kept: Mapping[str, np.ndarray], index: int, say: Language) -> str:
    true, predicted = label(names, kept["worst_true"][index]), label(names, kept["worst_predicted"][index])
    read = say("{true} read as {predicted}", true=true, predicted=predicted)
    return f"{read}\n({say('{share:.0%} sure', share=kept['worst_probability'][index])})"


if __name__ == "__main__":
    for file in draw(Path(sys.argv[1])):
        print(file)
