"""`python -m experiments.predict RUN PICTURE ... [--picture OUT.png] [--json]`: what a trained model reads in pictures.

RUN is a run's folder or MLflow id; PICTURE a file or a folder of them, in any size. The dataset is not needed. Each
picture is brought to what the model was trained on, and what was done to it is told. One that cannot be read is told,
the others are read, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import cli
from experiments.errors import ConfigError, DataError, Fault
from experiments.runs.find import folder_of
from experiments.runs.prediction import Prediction

if TYPE_CHECKING:
    from experiments.data.preprocess import Seen
    from experiments.data.splits import DataSpec, Splits
    from experiments.training.result import Result

PICTURE = "predictions.png"


class Reader:
    """A run's trained model, for pictures.

    Raises:
        ConfigError: there is no such run, it has no weights, or its model takes no pictures.
    """

    def __init__(self, run: str | Path | Result, *, output_root: str | Path = "outputs") -> None:
        from experiments.config.registry import register
        from experiments.data.preprocess import require_pictures
        from experiments.runs import load

        self.folder = folder_of(run, output_root)
        self.spec = load.data_spec(self.folder)
        self.root = load.configuration(self.folder, [*load.here(self.folder), "loader.valid_shuffle=false"])
        self.metadata = register.dataset.get(self.root.dataset["name"]).metadata
        require_pictures(self.spec.shape)

    def seen(self, path: Path) -> Seen:
        """What the model will be given of a picture.

        Raises:
            DataError: it cannot be read.
        """
        from experiments.data import images, preprocess

        return preprocess.fit(images.read(path, self.spec.shape[0]), self.spec.shape, self.metadata)

    def read(self, paths: Sequence[Path], seen: Sequence[Seen]) -> list[Prediction]:
        """What the model reads in each."""
        import numpy as np
        import torch

        from experiments.runs import load
        from experiments.seeds import noise_kept

        splits = _as_data(self.spec, torch.from_numpy(np.stack([picture.pixels for picture in seen])))
        with noise_kept():
            runner, _ = load.trained_runner(self.folder, self.root, splits, torch.device("cpu"))
        runner.model.eval()
        with torch.inference_mode():
            outputs = torch.cat([runner.predict(xb) for xb, _ in runner.valid.epoch(0)])
        if self.spec.classes:
            # The log-softmax of log-probabilities is themselves, so this holds for every stage's model.
            outputs = outputs.float().softmax(dim=1)
        labels = self.spec.labels or tuple(map(str, range(self.spec.outputs)))
        return [
            Prediction(path, tuple(row), labels if self.spec.classes else (), picture.pixels, picture.how)
            for path, row, picture in zip(paths, outputs.tolist(), seen, strict=True)
        ]


def predict(
    run: str | Path | Result, pictures: Sequence[str | Path], *, output_root: str | Path = "outputs"
) -> list[Prediction]:
    """What a run's trained model reads in picture files; the dataset is not needed.

        for prediction in predict("outputs/runs/...", ["seven.png", "folder"]):
            print(prediction.path, prediction.label, max(prediction.outputs))

    Args:
        run: its folder, its MLflow id, or what `experiments.run` gave.
        pictures: files, and folders whose pictures are taken, sorted by name.
        output_root: where runs with an id are looked for.

    Raises:
        ConfigError: there is no such run, it has no weights, or its model takes no pictures.
        DataError: one of the pictures cannot be read.
    """
    from experiments.data import images

    reader = Reader(run, output_root=output_root)
    paths = [path for given in pictures for path in images.files(Path(given))]
    return reader.read(paths, [reader.seen(path) for path in paths]) if paths else []


def main(arguments: list[str] | None = None) -> None:
    """Read the pictures; exit codes: 0, 1 some could not be read, 2 the run cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder or MLflow id")
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="a file, or a folder of them")
    parser.add_argument(
        "--picture", type=Path, metavar="OUT.png", help=f"what the model saw (default: {PICTURE} in the run's folder)"
    )
    parser.add_argument("--json", action="store_true", help="all probabilities; a picture only with --picture")
    given = parser.parse_intermixed_args(arguments)
    cli.guarded(lambda: _tell(given))


def _tell(given: argparse.Namespace) -> None:
    reader = Reader(given.run)
    paths, seen, problems = _looked_at(reader, given.pictures)
    if given.picture is not None:
        _require_target(given.picture, paths)
    predictions = reader.read(paths, seen) if paths else []
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if given.json:
        print(json.dumps([prediction.as_json() for prediction in predictions], indent=2))
    elif predictions:
        from experiments.runs.prediction import line

        print("\n".join(map(line, predictions)))
    if predictions and (given.picture is not None or not given.json):
        _draw(predictions, given.picture or reader.folder / PICTURE)
    if problems:
        sys.exit(1)


def _looked_at(reader: Reader, given: Sequence[Path]) -> tuple[list[Path], list[Seen], list[str]]:
    """The pictures that can be read, and what is wrong with the others."""
    from experiments.data import images
    from experiments.runs.prediction import printable

    paths, seen, problems = [], [], []
    for name in given:
        try:
            found = images.files(name)
        except DataError as error:
            problems.append(printable(error))
            continue
        for path in found:
            try:
                seen.append(reader.seen(path))
                paths.append(path)
            except DataError as error:
                problems.append(printable(error))
    return paths, seen, problems


def _require_target(target: Path, paths: Sequence[Path]) -> None:
    """See that no picture that is read is lost to the one that is drawn."""
    if target.suffix.lower() != ".png":
        raise ConfigError(Fault("--picture", f"{target} should end in .png"))
    if target.exists() and any(target.samefile(path) for path in paths):
        raise ConfigError(Fault("--picture", f"{target} is one of the pictures to read"))


def _draw(predictions: Sequence[Prediction], target: Path) -> None:
    from experiments.runs import terminal
    from experiments.runs.prediction import SHOWN, draw

    try:
        draw(predictions, target)
    except OSError as error:
        raise ConfigError(Fault("--picture", f"{target} cannot be written: {error.strerror or error}")) from None
    more = f" (the first {SHOWN} of {len(predictions)})" if len(predictions) > SHOWN else ""
    print(f"what the model saw: {terminal.relative(target)}{more}", file=sys.stderr)


def _as_data(spec: DataSpec, pixels: Any) -> Splits:
    """Pictures in place of a dataset's rows, with targets that nobody reads."""
    import torch
    from torch.utils.data import TensorDataset

    from experiments.data.splits import Split, Splits

    count = len(pixels)
    targets = torch.zeros(count, dtype=torch.long) if spec.classes else torch.zeros(count, spec.outputs)
    rows = Split(TensorDataset(pixels.reshape(count, -1), targets))
    return Splits(rows, rows, spec)


if __name__ == "__main__":
    main()
