"""`python -m experiments.predict RUN PICTURE ... [--picture OUT.png]`: what a trained model reads in images.

RUN is a run's folder, its MLflow id or latest; PICTURE an image file or a folder of them, in any size. The dataset is
not needed. Each image is brought to what the model was trained on, and the changes are printed. An image that cannot be
read is reported, the others are read, and the exit code is 1. --json draws only with --picture.

Instead of images, for dataset=table: --row "area=100,rooms=3", or --rows FILE.csv; for dataset=text: --text "...".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import answer, cli
from experiments.errors import ConfigError, Fault
from experiments.runs.find import find

if TYPE_CHECKING:
    from experiments.runs.prediction import PictureAnswer

PICTURE = "predictions.png"


@dataclass(frozen=True)
class Predictions:
    """What a model predicts.

    Args:
        run: the folder of the run.
        pictures: of images.
        unreadable: the problems of images that could not be read.
        rows: of rows, or of one text: the probability by class, or the value by target.
        text: how a text goes on.
    """

    run: Path
    pictures: Sequence[PictureAnswer] = ()
    unreadable: Sequence[str] = ()
    rows: Sequence[Mapping[str, float]] = ()
    text: str | None = None


def main(arguments: list[str] | None = None) -> None:
    """Read the images; exit codes: 0, 1 some could not be read, 2 the run cannot be used."""
    parser = cli.parser("predict", __doc__, answers=True)
    parser.add_argument("run", metavar="RUN", help="a run's folder or MLflow id, or latest")
    parser.add_argument("pictures", nargs="*", type=Path, metavar="PICTURE", help="an image file, or a folder of them")
    parser.add_argument(
        "--picture", type=Path, metavar="OUT.png", help=f"what the model saw (default: {PICTURE} in the run's folder)"
    )
    others = parser.add_mutually_exclusive_group()
    others.add_argument("--row", help='a row of a table: "area=100,rooms=3"')
    others.add_argument("--rows", type=Path, metavar="FILE", help="a table of rows")
    others.add_argument("--text", help="a text to classify or to continue")
    parser.add_argument("--tokens", type=int, default=50, metavar="N", help="how many tokens continue a text")
    given = parser.parse_intermixed_args(arguments)
    other = any(value is not None for value in (given.row, given.rows, given.text))
    if other == bool(given.pictures):
        parser.error("give images, or one of --row, --rows and --text")
    cli.guarded(lambda: (_predict_others if other else _predict)(given), json=given.json)


def _predict(given: argparse.Namespace) -> int:
    folder = find(given.run)
    from experiments.runs import prediction, reading  # need torch and matplotlib

    reader = reading.Reader(folder)
    paths, seen, problems = reader.readable(given.pictures)
    if given.picture is not None:
        _require_target(given.picture, paths)
    predictions = reader.read(paths, seen)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    for found in predictions:
        print(prediction.line(found))
    answer.give(Predictions(folder, pictures=[found.answer for found in predictions], unreadable=problems))
    if predictions and (given.picture is not None or given.json is None):
        reading.draw(predictions, given.picture or folder / PICTURE)
    return int(bool(problems))


def _predict_others(given: argparse.Namespace) -> None:
    folder = find(given.run)
    from experiments.runs import rows_prediction  # needs torch

    if given.text is None:
        found: list[Any] = rows_prediction.rows(folder, given.row, given.rows)
    else:
        found = [rows_prediction.text(folder, given.text, given.tokens)]
    rows = [each for each in found if isinstance(each, dict)]
    answer.give(Predictions(folder, rows=rows, text=next((each for each in found if isinstance(each, str)), None)))
    for each in found:
        values = each if isinstance(each, dict) else {}
        ranked = sorted(values, key=lambda name: -values[name])[:3]
        print(", ".join(f"{name} {values[name]:.6g}" for name in ranked) if values else each)


def _require_target(target: Path, paths: Sequence[Path]) -> None:
    """Check that the drawing overwrites no image that is read."""
    if target.suffix.lower() != ".png":
        raise ConfigError(Fault("--picture", f"{target} should end in .png"))
    if target.exists() and any(target.samefile(path) for path in paths):
        raise ConfigError(Fault("--picture", f"{target} is one of the images to read"))


if __name__ == "__main__":
    main()
