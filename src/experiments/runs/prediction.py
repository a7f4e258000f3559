"""What a model reads in pictures: a line for each on the terminal, and one picture of all that the model saw."""

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

SHOWN = 60  # more pictures in one picture are seen by nobody
COLUMNS = 4
WIDTH, HEIGHT = 2.6, 1.4  # of what is drawn for one, where the picture itself is 1
BARS = 10


@dataclass(frozen=True)
class Prediction:
    """What a model reads in one picture.

    Args:
        path: the picture's file.
        outputs: the probability of each class, or, where targets are real numbers, what the model gives.
        labels: what the classes are called; empty for real targets.
        seen: what the model was given, bytes (channels, height, width).
        how: what was done to the picture, in words.
    """

    path: Path
    outputs: tuple[float, ...]
    labels: tuple[str, ...]
    seen: NDArray[np.uint8]
    how: tuple[str, ...]

    @property
    def ranked(self) -> list[int]:
        """The classes, the likeliest first; the lower number where two are alike, as argmax has it."""
        return sorted(range(len(self.labels)), key=lambda number: -self.outputs[number])

    @property
    def label(self) -> str:
        """What the likeliest class is called."""
        return self.labels[self.ranked[0]]

    def as_json(self) -> dict[str, Any]:
        """As plain values, without the pixels."""
        told: dict[str, Any] = {"picture": str(self.path), "how": list(self.how)}
        if not self.labels:
            return told | {"outputs": list(self.outputs)}
        best = self.ranked[0]
        return told | {
            "class": best,
            "label": self.label,
            "probability": self.outputs[best],
            "probabilities": list(self.outputs),
        }


def line(prediction: Prediction) -> str:
    """The file, the class and its probability, the next two, and what was done to the picture."""
    how = f"  ({'; '.join(prediction.how)})" if prediction.how else ""
    if not prediction.labels:
        return f"{printable(prediction.path)}  {', '.join(map(repr, prediction.outputs))}{how}"
    first, *others = [
        f"{printable(prediction.labels[number])} {prediction.outputs[number]:.2%}" for number in prediction.ranked[:3]
    ]
    then = f"  then {', '.join(others)}" if others else ""
    return f"{printable(prediction.path)}  {first}{then}{how}"


def draw(predictions: Sequence[Prediction], target: Path) -> None:
    """Each picture as the model saw it, beside the probabilities of the classes."""
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
    """Without characters that could steer a terminal or hide a part of the text."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(text))


def _show(axes: Any, prediction: Prediction, left: float, top: float) -> None:
    """The picture, which is one high, and its file's name above."""
    _, height, width = prediction.seen.shape
    larger = max(height, width)
    place = (left, left + width / larger, top + height / larger, top)
    # Grey is drawn by its first channel; a colour's scale is its own.
    pixels = prediction.seen[0] if len(prediction.seen) == 1 else prediction.seen.transpose(1, 2, 0)
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=place, interpolation="nearest")
    _write(axes, left, top - 0.04, _short(prediction.path.name), va="bottom", fontsize=8)


def _tell(axes: Any, prediction: Prediction, left: float, top: float) -> None:
    """What the model says: a bar for each class, or numbers."""
    if not prediction.labels:
        told = "\n".join(f"{value:.6g}" for value in prediction.outputs[:BARS])
        _write(axes, left, top + 0.5, told, va="center", fontsize=9)
        return
    best = prediction.ranked[0]
    # In the classes' own order where all are shown, so that pictures can be compared.
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
    axes.text(left, top, text, parse_math=False, **style)  # a name may hold a $, which is no formula


def _short(text: str, longest: int = 22) -> str:
    text = printable(text)
    return text if len(text) <= longest else f"{text[: longest // 2 - 1]}..{text[1 - longest // 2 :]}"
