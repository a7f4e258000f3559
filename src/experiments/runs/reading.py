"""Read image files with a run's trained model; its dataset is not needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from experiments.config.registry import register
from experiments.data import images, preprocess
from experiments.data.preprocess import Seen
from experiments.data.split import Split
from experiments.data.splits import DataSpec, Splits
from experiments.errors import ConfigError, DataError, Fault
from experiments.runs import load, prediction, terminal
from experiments.runs.find import folder_of, run_in
from experiments.runs.prediction import Prediction
from experiments.seeds import noise_kept
from experiments.training.result import Result
from experiments.training.runner import Runner


class TrainedModel:
    """A run's trained model, for rows that are not those of its dataset."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.spec = folder, load.data_spec(folder)
        self.root = load.configuration(folder, [*load.here(folder), "loader.valid_shuffle=false"])

    def runner(self, x: Tensor) -> Runner:
        """Return the model's runner, with rows (n, ...) for validation."""
        with noise_kept():
            runner, _ = load.trained_runner(self.folder, self.root, as_data(self.spec, x), torch.device("cpu"))
        runner.model.eval()
        return runner

    def in_words(self, outputs: Tensor) -> Tensor:
        """Return outputs (n, outputs, ...), of labels as probabilities."""
        # The log-softmax of log-probabilities is themselves, so this holds for every stage's model.
        return outputs.float().softmax(dim=1) if self.spec.classes else outputs


class Reader(TrainedModel):
    """A run's trained model, for images.

    Raises:
        ConfigError: there is no such run, it has no weights, or its model takes no images.
    """

    def __init__(self, run: str | Path | Result, *, output_root: str | Path = "outputs") -> None:
        super().__init__(folder_of(run, output_root))
        self.metadata = register.dataset.get(self.root.dataset["name"]).metadata
        self.own = self.metadata.get("prepare")
        if self.own is None:
            preprocess.require_pictures(self.spec.shape, run_in(self.folder).start.data.get("values"))

    def seen(self, path: Path) -> Seen:
        """Return an image file as the model gets it.

        Raises:
            DataError: it cannot be read.
        """
        image = images.read(path, 1 if tuple(self.spec.shape)[:1] == (1,) else 3)
        if self.own is not None:
            return preprocess.own(image, self.spec, self.own)
        return preprocess.fit(image, self.spec.shape, self.metadata)

    def readable(self, given: Sequence[Path]) -> tuple[list[Path], list[Seen], list[str]]:
        """Return the readable images among files and folders, each as the model gets it, and the others' problems."""
        paths, seen, problems = [], [], []
        for name in given:
            try:
                found = images.files(name)
            except DataError as error:
                problems.append(prediction.printable(error))
                continue
            for path in found:
                try:
                    seen.append(self.seen(path))
                    paths.append(path)
                except DataError as error:
                    problems.append(prediction.printable(error))
        return paths, seen, problems

    def read(self, paths: Sequence[Path], seen: Sequence[Seen]) -> list[Prediction]:
        """Return the model's prediction for each image."""
        if not paths:
            return []
        runner = self.runner(torch.from_numpy(np.stack([image.pixels for image in seen])))
        with torch.inference_mode():
            found = [runner.predict(xb) for xb, _ in runner.valid.epoch(0)]
        if not all(isinstance(pred, Tensor) for pred in found):
            problem = "its model returns several tensors, and predict shows one of (rows, outputs)"
            raise ConfigError(Fault(terminal.relative(self.folder), f"{problem}; experiments.load gives the model"))
        outputs = self.in_words(torch.cat(found))
        labels = self.spec.labels or tuple(map(str, range(self.spec.outputs)))
        return [
            Prediction(path, tuple(row), labels if self.spec.classes else (), image.pixels, image.how)
            for path, row, image in zip(paths, outputs.tolist(), seen, strict=True)
        ]


def predict(
    run: str | Path | Result, pictures: Sequence[str | Path], *, output_root: str | Path = "outputs"
) -> list[Prediction]:
    """Return the predictions of a run's trained model for image files.

        for prediction in predict("outputs/runs/...", ["seven.png", "folder"]):
            print(prediction.path, prediction.label, max(prediction.outputs))

    Args:
        run: its folder, its MLflow id, or what `experiments.run` returned.
        pictures: files, and folders whose images are read, sorted by name.
        output_root: where a run with an id is searched.

    Raises:
        ConfigError: there is no such run, it has no weights, or its model takes no images.
        DataError: one of the images cannot be read.
    """
    reader = Reader(run, output_root=output_root)
    paths = [path for given in pictures for path in images.files(Path(given))]
    return reader.read(paths, [reader.seen(path) for path in paths])


def draw(predictions: Sequence[Prediction], target: Path) -> None:
    """Draw what the model saw, and print where.

    Raises:
        ConfigError: the target cannot be written.
    """
    try:
        prediction.draw(predictions, target)
    except OSError as error:
        raise ConfigError(Fault("--picture", f"{target} cannot be written: {error.strerror or error}")) from None
    shown = prediction.SHOWN
    more = f" (the first {shown} of {len(predictions)})" if len(predictions) > shown else ""
    print(f"what the model saw: {terminal.relative(target)}{more}", file=sys.stderr)


def as_data(spec: DataSpec, x: Tensor) -> Splits:
    """Return rows in place of a dataset's, with targets that nobody reads."""
    count = len(x)
    targets = torch.zeros(count, *spec.places, dtype=torch.long) if spec.classes else torch.zeros(count, spec.outputs)
    rows = Split(TensorDataset(x.reshape(count, -1), targets), spec.shape, classes=spec.classes)
    return Splits(rows, rows, spec, unread=True)
