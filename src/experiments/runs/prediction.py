"""A model's predictions for images: a line for each on the terminal, and one plot of all that the model saw."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from experiments.files import replacing

SHOWN = 60  # nobody reads more images in one plot
COLUMNS = 4
WIDTH, HEIGHT = 2.6, 1.4  # of one prediction's drawing, where the image itself is 1
BARS = 10


@dataclass(frozen=True)
class PictureAnswer:
    """A prediction for one image, for `--json`.

    Args:
        picture: the image's file.
        how: the changes made to the image, in words.
        index: the number of the likeliest class; None for real targets, like the next two.
        label: its name.
        probability: of that class.
        outputs: the probability of each class; for real targets, the model's outputs.
    """

    picture: Path
    how: Sequence[str]
    index: int | None
    label: str | None
    probability: float | None
    outputs: Sequence[float]


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one image.

    Args:
        path: the image's file.
        outputs: the probability of each class; for real targets, the model's outputs.
        labels: the classes' names; empty for real targets.
        seen: the model's input (channels, height, width), bytes or what the dataset's own function made.
        how: the changes made to the image, in words.
    """

    path: Path
    outputs: tuple[float, ...]
    labels: tuple[str, ...]
    seen: NDArray[Any]
    how: tuple[str, ...]

    @property
    def ranked(self) -> list[int]:
        """Return the classes, the likeliest first; of equal ones the lower number first, as in argmax."""
        return sorted(range(len(self.labels)), key=lambda number: -self.outputs[number])

    @property
    def label(self) -> str:
        """Return the name of the likeliest class."""
        return self.labels[self.ranked[0]]

    @property
    def answer(self) -> PictureAnswer:
        """Return it without the pixels, for `--json`."""
        best = self.ranked[0] if self.labels else None
        label, probability = (None, None) if best is None else (self.label, self.outputs[best])
        return PictureAnswer(self.path, self.how, best, label, probability, self.outputs)


def line(prediction: Prediction) -> str:
    """Return the file, the class and its probability, the next two, and the changes made to the image."""
    how = f"  ({'; '.join(prediction.how)})" if prediction.how else ""
    if not prediction.labels:
        return f"{printable(prediction.path)}  {', '.join(map(repr, prediction.outputs))}{how}"
    first, *others = [
        f"{printable(prediction.labels[number])} {prediction.outputs[number]:.2%}" for number in prediction.ranked[:3]
    ]
    then = f"  then {', '.join(others)}" if others else ""
    return f"{printable(prediction.path)}  {first}{then}{how}"


def draw(predictions: Sequence[Prediction], target: Path) -> None:
    """Draw each image as the model saw it, beside the probabilities of the classes."""
    shown = predictions[:SHOWN]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(1.6 * WIDTH * columns, 1.6 * HEIGHT * rows))
    # One pair of axes for all: a pair for each takes many times as long.
    axes = figure.add_axes((0, 0, 1, 1))
    for index, prediction in enumerate(shown):
        left, top = index % columns * WIDTH, index // columns * HEIGHT
        _show(axes, prediction, left + 0.1, top + 0.25)
        _tell(axes, prediction, left + 1.4, top + 0.25)
    axes.set(xlim=(0, WIDTH * columns), ylim=(HEIGHT * rows, 0))
    axes.axis("off")
    with replacing(target) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks is an empty box
        figure.savefig(temporary, format="png")


def printable(text: object) -> str:
    """Return the text without characters that could control a terminal or hide a part of it."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(text))


def _show(axes: Any, prediction: Prediction, left: float, top: float) -> None:
    """Draw the image, one unit high, under its file's name."""
    seen = prediction.seen
    if seen.dtype != np.uint8:  # from black, the least, to white, the greatest
        seen = np.interp(seen, (seen.min(), seen.max()), (0, 255)).astype(np.uint8)
    height, width = (1, 1, *seen.shape)[-2:]
    seen = seen.reshape(-1, height, width)
    larger = max(height, width)
    place = (left, left + width / larger, top + height / larger, top)
    # Grey is drawn by its first channel; a colour's scale is its own.
    pixels = seen.transpose(1, 2, 0) if len(seen) == 3 else seen[0]
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=place, interpolation="nearest")
    _write(axes, left, top - 0.04, _short(prediction.path.name), va="bottom", fontsize=8)


def _tell(axes: Any, prediction: Prediction, left: float, top: float) -> None:
    """Draw the model's answer: a bar for each class, or numbers."""
    if not prediction.labels:
        told = "\n".join(f"{value:.6g}" for value in prediction.outputs[:BARS])
        _write(axes, left, top + 0.5, told, va="center", fontsize=9)
        return
    best = prediction.ranked[0]
    # In the classes' order where all are shown, so that images can be compared.
    shown = prediction.ranked[:BARS] if len(prediction.labels) > BARS else range(len(prediction.labels))
    values = [prediction.outputs[number] for number in shown]
    places = [top + (index + 0.5) / len(shown) for index in range(len(shown))]
    colours = ["C0" if number == best else "C7" for number in shown]
    axes.barh(places, [1] * len(shown), 0.8 / len(shown), left, color="0.95")
    axes.barh(places, values, 0.8 / len(shown), left, color=colours)
    for number, place in zip(shown, places, strict=True):
        _write(axes, left - 0.03, place, _short(prediction.labels[number], 8), va="center", ha="right", fontsize=6)
    said = f"{_short(prediction.labels[best], 16)}  {prediction.outputs[best]:.1%}"
    _write(axes, left, top - 0.04, said, va="bottom", fontsize=9)


def _write(axes: Any, left: float, top: float, text: str, **style: Any) -> None:
    axes.text(left, top, text, parse_math=False, **style)  # a $ in a name does not start a formula


def _short(text: str, longest: int = 22) -> str:
    text = printable(text)
    return text if len(text) <= longest else f"{text[: longest // 2 - 1]}..{text[1 - longest // 2 :]}"
