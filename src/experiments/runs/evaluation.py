"""Measure a run's trained model again, on its own or other data."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from experiments.config.registry import register
from experiments.config.root import RootConfig
from experiments.data.split import Split
from experiments.data.splits import DataSpec, Splits
from experiments.data.tensors import is_image
from experiments.errors import ConfigError, Fault
from experiments.runs import ledger, load
from experiments.runs.find import folder_of
from experiments.seeds import noise_state, same_noise
from experiments.training import build, describe
from experiments.training import device as devices
from experiments.training.result import Result

log = logging.getLogger(__name__)


def evaluate(
    run: str | Path | Result,
    overrides: Sequence[str] = (),
    *,
    split: Literal["train", "valid", "test"] = "valid",
    weights: load.Which = "last",
    output_root: str | Path = "outputs",
) -> dict[str, float]:
    """Return the loss and the metrics of a run's trained model over a split, by name (`valid/loss`).

    A measurement on the test rows of the run's own dataset is counted in its folder, and in MLflow as a tag.

    Args:
        run: its folder, its MLflow id, or what `experiments.run` returned.
        overrides: what differs from the run: `["dataset=fashion_mnist", "device=cpu"]`.
        split: of the dataset.
        weights: those after the last epoch, or those of the best validation loss.
        output_root: where a run with an id is searched.

    Raises:
        ConfigError: there is no such run, split or weights, the dataset does not fit the model, or the test rows are
            those of a run that has not ended.
        DataError: the dataset is unavailable.
    """
    folder = folder_of(run, output_root)
    if split == "test":
        ledger.require_ended(folder)
    # A graph and a stack are for training steps, and none is taken here.
    root = load.configuration(folder, ["device.graph=false", "device.batched=null", *overrides])
    build.forget_dataset()
    with devices.settings_kept():
        device = devices.prepare(root.device, deterministic=root.deterministic)
        splits = build.load_dataset(root.dataset, root.loss["name"])
        rows = _rows(splits, split)
        _require_fit(root, load.data_spec(folder), splits.spec)
        # The rows replace the training rows too, which a loader might read.
        measured = dataclasses.replace(splits, train=rows, valid=rows, counts=splits.class_counts)
        runner, epoch = load.trained_runner(folder, root, measured, device, weights)
        # The epoch's number seeds the order of a shuffled validation.
        before = noise_state(device)
        metrics = runner.evaluate(epoch)
        if not same_noise(before, noise_state(device)):
            log.warning("The model, the loader or a transform draws noise in evaluation: a repeat draws other numbers.")
    if split == "test" and splits.spec.name == load.data_spec(folder).name:
        ledger.add(folder)
    return {f"{split}/{name}": value for name, value in metrics.items()}


def _rows(splits: Splits, split: str) -> Split:
    rows: Split | None = getattr(splits, split)
    if rows is None:
        problem = f"dataset {splits.spec.name} has no {split} rows; available: {', '.join(splits.spec.sizes)}"
        raise ConfigError(Fault("split", problem))
    return rows


def _require_fit(root: RootConfig, trained: DataSpec, now: DataSpec) -> None:
    """Check that a dataset has the targets and size that the model was trained on; the first batch checks the rest."""

    def targets(spec: DataSpec) -> str:
        return f"{spec.outputs} {'classes' if spec.classes else 'real targets'}"

    def size(spec: DataSpec) -> str:
        return describe.size(spec.shape)

    if (trained.classes, trained.outputs) != (now.classes, now.outputs):
        problem = f"{now.name} has {targets(now)}; the run's model was trained for {targets(trained)} ({trained.name})"
        raise ConfigError(Fault("dataset", problem))
    if trained.name == now.name and trained.labels != now.labels:  # the same number would mean another class
        problem = f"{now.name} has the classes {', '.join(now.labels)}; the run's model {', '.join(trained.labels)}"
        raise ConfigError(Fault("dataset", f"{problem}; an array `labels` in the file sets them"))
    flat = register.model.get(root.model["name"]).metadata.get("input") == "flat"
    images = all(isinstance(spec.dtype, str) and is_image(spec.shape) for spec in (trained, now))
    same = trained.shape[0] == now.shape[0] if images else trained.shape == now.shape
    if not same or (flat and trained.features != now.features):
        what = "images" if images else "rows"
        problem = f"{now.name} has {what} of {size(now)}; the run's model was trained on {size(trained)}"
        raise ConfigError(Fault("dataset", problem))
