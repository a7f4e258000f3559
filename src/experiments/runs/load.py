"""Runs that are there: found by folder or MLflow id, with the configuration, data spec and weights they had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from experiments.config import check, compose
from experiments.config.root import RootConfig
from experiments.data.splits import DataSpec, Splits
from experiments.errors import ConfigError, Fault
from experiments.runs.find import folder_of, run_in
from experiments.runs.overrides import merge
from experiments.runs.terminal import relative
from experiments.seeds import derive, noise_kept
from experiments.tracking import record
from experiments.training import weights
from experiments.training.build import assemble, build_model
from experiments.training.checkpoint import FOLDER, Checkpoints
from experiments.training.precision import AUTOCAST
from experiments.training.result import Result
from experiments.training.runner import Runner

Which = Literal["last", "best"]
# A model that was trained on a card is looked at where there is none, and is not trained there.
HERE = ("device=cpu", "device.index=null", "device.compile=false", "device.graph=false")


def here(folder: Path) -> list[str]:
    """The settings with which a run's model is looked at on the CPU: in its precision, as far as a CPU has it."""
    precision = run_in(folder).start.params.get("device.precision", "fp32")
    return [*HERE, f"device.precision={precision if precision in AUTOCAST else 'fp32'}"]


def configuration(folder: Path, overrides: Sequence[str] = ()) -> RootConfig:
    """The checked configuration that the run in a folder had, with other settings where they are given.

    An option that is chosen anew (dataset=fashion_mnist) is that option, without what the run said of its own one.
    Nothing is tracked, so that the password of a store, which is not kept, need not be given again.

    Raises:
        ConfigError: it cannot be had, or is none with these settings.
    """
    overrides = ["tracking=none", *overrides]
    chosen = [override.partition("=")[0] for override in overrides]
    anew = tuple(f"{group}." for group in chosen if group in compose.SINGLE)
    kept = [override for override in run_in(folder).overrides if not override.lstrip("+~").startswith(anew)]
    return check.configured(merge(kept, overrides)).root


def data_spec(folder: Path) -> DataSpec:
    """What the run's dataset said of itself; the dataset itself is not needed."""
    told = run_in(folder).start.data
    return DataSpec(**{**told, "shape": tuple(told["shape"]), "labels": tuple(told["labels"])})


def load(run: str | Path | Result, *, output_root: str | Path = "outputs") -> Any:
    """The trained model of a run that is there, on the CPU, in evaluation mode.

    Args:
        run: its folder, its MLflow id, or what `experiments.run` gave.
        output_root: where runs with an id are looked for.

    Raises:
        ConfigError: there is no such run, or it has no weights.
    """
    if isinstance(run, Result) and run.folder is None:
        return run.model
    folder = folder_of(run, output_root)
    with noise_kept():
        model, _ = _trained(folder, configuration(folder, here(folder)), "last")
    return model.eval()


def trained_runner(
    folder: Path, root: RootConfig, splits: Splits, device: torch.device, which: Which = "last"
) -> tuple[Runner, int]:
    """A run's trained model with the loss, metrics and transforms it had, and the epoch that it was kept after.

    Args:
        folder: the run's.
        root: its configuration, with what is to be another now.
        splits: what the runner has before it, the run's own dataset or any other that fits the model.
        device: where it computes.
        which: the weights after the last epoch, or those of the best validation loss.

    Raises:
        ConfigError: there are no such weights, or the dataset does not fit them.
    """
    model, epoch = _trained(folder, root, which)
    # Callbacks belong to a training, and one that watches it may ask for more than is measured now.
    root = root.model_copy(update={"callbacks": {}})
    seeds = derive(root.seed, root.seeds.model_dump())
    return assemble(root, splits=splits, model=model, device=device, seeds=seeds, folder=None), epoch


def _trained(folder: Path, root: RootConfig, which: Which) -> tuple[Any, int]:
    """The model for the data that it was trained on, with its trained weights, and the epoch they were kept after."""
    model = build_model(root, data_spec(folder), derive(root.seed, root.seeds.model_dump()))
    told = relative(folder)
    if which == "last":
        weights.into(model, weights.load(folder, key=told), told, key=told)
        return model, len(record.read(folder).history) - 1
    kept = Checkpoints(folder / FOLDER).best_weights()
    if kept is None:
        raise ConfigError(Fault(told, f"it has no best weights in {FOLDER}; checkpoint.best keeps them"))
    weights.into(model, kept[0], told, key=told)
    return model, kept[1]
