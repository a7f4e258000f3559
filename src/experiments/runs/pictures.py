"""The data of a run's plots, kept in one small file, so that nobody waits for the drawing.

digits and digit_labels: the first training images. With class labels also confusion (true, predicted), and the
worst mistakes of the validation: worst, worst_true, worst_predicted, worst_probability (of the prediction); and never,
the classes of validation rows that are never predicted.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from experiments.data.batches import Batches
from experiments.data.split import Split
from experiments.data.splits import DataSpec, Splits
from experiments.data.tensors import is_image, to_float
from experiments.errors import warned
from experiments.training.runner import Runner

log = logging.getLogger(__name__)

FILE = "pictures.npz"
DIGITS = 25
WORST = 25
SHOWN_CLASSES = 100  # a larger confusion matrix cannot be read


def collect(runner: Runner, valid: Batches, splits: Splits, folder: Path) -> None:
    """Keep what the plots need: training images, and the trained model's mistakes in the validation rows.

    What does not apply to the data or the model is left out. An error is a warning, since the run is trained.
    """
    kept = {"labels": np.array(splits.spec.labels)}
    with warned(log, "plots of the data"):
        if _drawable(splits.spec) and not isinstance(splits.train.item[1], tuple | Mapping):
            digits, labels = _rows(splits.train, torch.arange(min(DIGITS, len(splits.train))), splits.spec.shape)
            kept |= {"digits": digits, "digit_labels": labels}
    with warned(log, "plots of the predictions"):
        kept |= _mistakes(runner, valid, splits)
    with warned(log, "plots"):
        np.savez(folder / FILE, **kept)  # type: ignore[arg-type]  # numpy's stub takes a keyword for allow_pickle


def _drawable(spec: DataSpec) -> bool:
    """Return whether rows are images of one or three channels."""
    return isinstance(spec.dtype, str) and is_image(spec.shape) and spec.shape[0] in (1, 3)


def _mistakes(runner: Runner, valid: Batches, splits: Splits) -> dict[str, np.ndarray]:
    """Return the confusion and the worst mistakes; empty where a row has not one label and one prediction."""
    spec, kept = splits.spec, dict[str, np.ndarray]()
    if not spec.classes or spec.places or (found := _predictions(runner, valid, spec.outputs)) is None:
        return kept
    predictions, targets, order = found
    predicted = predictions.argmax(dim=1)
    if never := sorted(set(targets.tolist()) - set(predicted.tolist())):
        kept["never"] = np.array([spec.labels[label] if spec.labels else str(label) for label in never])
    if spec.outputs <= SHOWN_CLASSES:
        confusion = torch.bincount(targets * spec.outputs + predicted, minlength=spec.outputs**2)
        kept["confusion"] = confusion.reshape(spec.outputs, spec.outputs).numpy()
    if not _drawable(spec):
        return kept
    # The log-softmax of log-probabilities is themselves, so this holds for every stage's model.
    probabilities = predictions.float().softmax(dim=1)
    wrong = (predicted != targets).nonzero().flatten()
    sureness = probabilities[wrong, targets[wrong]]
    worst = wrong[sureness.argsort()[:WORST]]
    kept["worst"], _ = _rows(splits.valid, order[worst], spec.shape)
    kept["worst_true"] = targets[worst].numpy()
    kept["worst_predicted"] = predicted[worst].numpy()
    kept["worst_probability"] = probabilities[worst, predicted[worst]].numpy()
    return kept


def _predictions(
    runner: Runner, valid: Batches, outputs: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Return predictions, targets and row numbers of the validation rows, on the CPU; None if no (rows, outputs)."""
    predictions, targets = [], []
    runner.model.eval()
    with torch.inference_mode():
        for xb, yb in valid.epoch(0):
            pred = runner.predict(runner.moved(xb))
            if not isinstance(pred, torch.Tensor) or pred.shape != (len(yb), outputs):
                return None
            predictions.append(pred.cpu())
            targets.append(yb.cpu())
    order = valid.order.indices()
    if order is None:
        order = torch.arange(len(valid.order))
    return torch.cat(predictions), torch.cat(targets), order


def _rows(split: Split, rows: torch.Tensor, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    items = [split.dataset[int(row)] for row in rows]
    if not items:
        return np.zeros((0, *shape), np.float32), np.zeros(0, np.int64)
    x = torch.stack([to_float(torch.as_tensor(x)).float().reshape(shape) for x, _ in items])
    return x.numpy(), np.array([torch.as_tensor(y).tolist() for _, y in items])
