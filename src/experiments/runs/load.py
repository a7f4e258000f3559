"""Load existing runs: their configuration, data spec and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from experiments.config import check
from experiments.config.root import RootConfig
from experiments.data.splits import DataSpec, Splits
from experiments.errors import ConfigError, Fault
from experiments.runs.find import folder_of, run_in
from experiments.runs.overrides import replaced
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
# A model that was trained on a card is used on the CPU here, and not trained.
HERE = ("device=cpu", "device.index=null", "device.compile=false", "device.graph=false")


def here(folder: Path) -> list[str]:
    """Return the settings for a run's model on the CPU, in its precision if a CPU has it."""
    precision = run_in(folder).start.params.get("device.precision", "fp32")
    return [*HERE, f"device.precision={precision if precision in AUTOCAST else 'fp32'}"]


def configuration(folder: Path, overrides: Sequence[str] = ()) -> RootConfig:
    """Return the checked configuration of the run in a folder, with other settings where given.

    Another option (dataset=fashion_mnist) does not get the run's settings of the former one. Nothing is tracked, so
    the password of a store, which is not kept, is not needed.

    Raises:
        ConfigError: there is no run, or these settings do not make a valid configuration.
    """
    return check.configured(replaced(run_in(folder).overrides, ["tracking=none", *overrides])).root


def data_spec(folder: Path) -> DataSpec:
    """Return the data spec of a run's dataset, without the dataset."""
    told = {key: value for key, value in run_in(folder).start.data.items() if key in DataSpec.__dataclass_fields__}
    kept: dict[str, Any] = {
        name: _tuples(told[name]) for name in ("shape", "labels", "places", "dtype") if name in told
    }
    return DataSpec(**{**told, **kept})


def _tuples(value: Any) -> Any:
    """Return lists as tuples, which JSON does not have, at any depth."""
    if isinstance(value, dict):
        return {key: _tuples(part) for key, part in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def load(run: str | Path | Result, *, output_root: str | Path = "outputs") -> Any:
    """Return the trained model of a run, on the CPU, in evaluation mode.

    Args:
        run: its folder, its MLflow id, `latest`, or the result of `experiments.run`.
        output_root: the folder in which an id is searched.

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
    """Return a runner with a run's trained model, loss, metrics and transforms, and the epoch of the weights.

    `root` is the run's configuration, with changed settings; `splits` are its dataset or any other that fits the model.

    Raises:
        ConfigError: there are no such weights, or the dataset does not fit them.
    """
    model, epoch = _trained(folder, root, which)
    # Callbacks belong to a training, and one that watches it may ask for more than is measured now.
    root = root.model_copy(update={"callbacks": {}})
    seeds = derive(root.seed, root.seeds.model_dump())
    return assemble(root, splits=splits, model=model, device=device, seeds=seeds, folder=None), epoch


def _trained(folder: Path, root: RootConfig, which: Which) -> tuple[Any, int]:
    """Return the model for its training data, with its trained weights, and the epoch of the weights."""
    root = root.model_copy(update={"freeze": []})  # whoever gets the model may train all of it
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
