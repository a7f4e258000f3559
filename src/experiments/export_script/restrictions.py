"""Reject what one script cannot hold, and note what it leaves out of a run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.config.registry import Component, register
from experiments.config.root import RootConfig, channels_last
from experiments.data.splits import DataSpec, Splits
from experiments.data.tensors import is_arrays
from experiments.errors import ConfigError, Fault
from experiments.export_script.training import Training
from experiments.runs.find import run_in
from experiments.runs.fingerprint import PLACES
from experiments.training import weights
from experiments.training.transfer import is_partial

# What a user's loader may read.
ROWS = ("dataset", "tensors", "floats")
ORDER = ("indices", "size", "rows", "shuffle", "seed", "epoch", "weights")
# What two trainings must have in common to share one `fit`.
STEPPING = ("step", "limit_batches", "max_grad_norm", "accumulate", "deterministic")
SHARED = ("model", "loss", "loader", "transforms", "evaluation", *STEPPING)


def require_shared(training: Training, last: Training) -> None:
    """Raise a ConfigError where a training differs from the last one in what a script has one of."""
    mine, other = _shared(training), _shared(last)
    if different := [key for key in mine if mine[key] != other[key]]:
        raise not_shared(training, different)


def not_shared(training: Training, different: Sequence[str]) -> ConfigError:
    """Return the error for a training that differs from the last one in what a script has one of."""
    problem = (
        f"{training.name}, whose weights it starts from, has another {' and '.join(different)}; "
        "one script has one of each: export that one, and then this one from its weights"
    )
    return ConfigError(Fault("init_from", problem))


def require_whole(root: RootConfig) -> None:
    """Raise a ConfigError where a training starts from a file, or from a part of other weights."""
    if root.init_from is not None and (weights.named(root.init_from) or is_partial(root)):
        problem = "a script repeats the training that gives its weights; it reads no file and takes no part of them"
        raise ConfigError(Fault("init_from", problem))


def require_read(loader: Component, code: str) -> None:
    """Raise a ConfigError where a user's loader reads something that the split or the order of a script has not."""
    split, _, order, *_ = inspect.signature(loader.factory).parameters
    for name, read in re.findall(rf"\b({split}|{order})\.([a-z]\w*)", code):
        has = ROWS if name == split else ORDER
        if read not in has:
            problem = f"{loader.name} reads {name}.{read}; in a script {name} has {', '.join(has)}"
            raise ConfigError(Fault("loader", problem))


def require_repeatable(name: str, root: RootConfig, run: Path | None, spec: DataSpec) -> None:
    """Raise a ConfigError where a script could not repeat the training whose weights another starts from.

    Args:
        name: its name in `init_from`.
        root: its configuration.
        run: its folder; None for a stage that is trained first.
        spec: of the rows that the script has.
    """
    if _stops_early(root):
        problem = "has early stopping, which a script has not, and may have gone back to its best weights"
    elif run is not None and (trained := len(run_in(run).history)) < root.epochs:
        problem = f"trained {trained} of its {root.epochs} epochs; a script trains all of them"
    elif run is not None and run_in(run).start.data["digest"] != spec.digest:
        problem = f"was trained on other data than {spec.name} is now; a script has one dataset"
    else:
        return
    raise ConfigError(Fault("init_from", f"{name} {problem}; export that one, and then this one from its weights"))


def notes(trainings: Sequence[Training], splits: Splits) -> Iterator[str]:
    """Yield what the script does not do as the run does, so that its losses may differ."""
    last = trainings[-1]
    if last.epochs < last.root.epochs:
        yield f"It trains {last.epochs} of {last.root.epochs} epochs, as the run did."
    elif _stops_early(last.root):
        yield "Without early stopping: it trains all epochs, and prints the metrics of the last ones too."
    switches = [
        f"device.{name}"
        for name in ("compile", "graph", "batched")
        if any(getattr(t.root.device, name) for t in trainings)
    ]
    if switches:
        yield f"Without {' and '.join(switches)}, so the last bits of its losses may be others."
    own = dict.fromkeys(name for training in trainings for name in training.root.callbacks if not _is_covered(name))
    if own:
        names = " and ".join(f"callbacks.{name}" for name in own)
        yield f"Without {names}: what that does to a training is missing, and its losses may be others."
    items = [split for split in (splits.train, splits.valid) if not is_arrays(split.dataset)]
    if items and not register.loader.get(last.root.loader["name"]).metadata.get("reads_once"):
        yield (
            "Each item of the dataset is read once; the run reads it again each epoch, "
            "so the losses may differ where the item has changed."
        )


def _stops_early(root: RootConfig) -> bool:
    return any(register.callback.get(name).metadata.get("stops_early") for name in root.callbacks)


def _is_covered(name: str) -> bool:
    """Whether a callback changes nothing in a training, or has another note."""
    declared = register.callback.get(name).metadata
    return bool(declared.get("watches_only") or declared.get("stops_early"))


def _shared(training: Training) -> dict[str, Any]:
    """Return what a script has one of, by key."""
    root = training.root
    return {key: getattr(root, key) for key in SHARED} | {
        "dataset": {key: value for key, value in root.dataset.items() if key not in PLACES},
        "freeze": root.freeze,
        "device.precision": root.device.precision,
        "device.threads": root.device.threads,
        "device.channels_last": channels_last(root),
        "seeds.data_order": training.seeds.data_order,
    }
