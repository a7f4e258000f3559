"""Checks, before a run starts, that components return what a training needs and fit together.

Each raises a ConfigError that names the component, what it returned or takes, and what was expected.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.config.registry import Component, register
from experiments.config.root import RootConfig
from experiments.data import nested
from experiments.data.split import Split
from experiments.data.splits import DataSpec, Splits, is_stream
from experiments.data.tensors import is_arrays, is_image
from experiments.errors import ConfigError, Fault, suggestion
from experiments.seeds import noise_kept, noise_state, same_noise
from experiments.tracking.metric_names import RULE, is_valid
from experiments.training import describe
from experiments.training.callback import Callback
from experiments.training.result import figure_names


def require_splits(value: Any, name: str) -> None:
    """Check that a dataset factory returned splits, or a mapping of the arguments of `Splits.of`."""
    if isinstance(value, Splits):
        return
    if not isinstance(value, Mapping):
        problem = f"{name} returned {describe.kind(value)}; expected a mapping with train and valid"
        raise ConfigError(Fault("dataset", problem))
    known = inspect.signature(Splits.of).parameters
    problems = [f"{name} returned {key!r}{suggestion(key, known)}" for key in value if key not in known]
    problems += [f"{name} returned no {part!r}" for part in ("train", "valid") if part not in value]
    _raise([Fault("dataset", problem) for problem in problems])


def require_metric_names(names: Iterable[str], key: str) -> None:
    """Check that MLflow takes these names of metrics."""
    _raise([Fault(key, f"{name!r} is not allowed as a metric's name: {RULE}") for name in names if not is_valid(name)])


def require_input(model: Component, spec: DataSpec) -> None:
    """Check that a model that takes images, of one `shape` perhaps, or one input gets such rows."""
    kind, shape = model.metadata.get("input"), model.metadata.get("shape", spec.shape)
    several = not isinstance(spec.dtype, str)
    if kind in ("image", "flat") and several:
        shipped = model.factory.__module__.startswith("experiments.")
        remedy = "no shipped model takes several, so write your own" if shipped else 'register it with input="any"'
        problem = f"takes one input, dataset {spec.name} has several ({spec.shape}); {remedy}"
    elif kind == "image" and not is_image(spec.shape):
        problem = f"takes images (channels, height, width), dataset {spec.name} has rows of the shape {spec.shape}; "
        problem += f'models of any: {_models("flat")}; where they are images, its "shape" is (1, height, width)'
    elif kind in ("image", "flat") and "vocabulary" in spec.extra:
        problem = f"takes numbers, dataset {spec.name} has tokens; models of tokens: {_models('tokens', 'any')}"
    elif kind == "tokens" and spec.dtype in ("float32", "bool"):
        problem = f"takes tokens, whole numbers, and dataset {spec.name} has x as {spec.dtype}"
    elif shape != spec.shape:
        problem = f"takes images of shape {shape}, dataset {spec.name} has {spec.shape}; "
        takers = ("flat", "image") if is_image(spec.shape) else ("flat",)
        problem += f"models of any shape: {_models(*takers)}"
    else:
        return
    raise ConfigError(Fault("model", f"{model.name} {problem}"))


def _models(*kinds: str) -> str:
    """Return the models that take these kinds of input in any shape."""
    known = {name: register.model.get(name).metadata for name in register.model.names}
    return ", ".join(name for name, told in known.items() if told.get("input") in kinds and "shape" not in told)


def class_weights(split: Split) -> Tensor:
    """Return how likely each row is drawn so that each class comes as often; for labels, one a row.

    Raises:
        ConfigError: the targets are something else.
    """
    y = split.tensors[1]
    if not isinstance(y, Tensor) or y.is_floating_point() or y.ndim > 1:
        raise ConfigError(Fault("loader.draw", "balanced draws rows by their label; this dataset has other targets"))
    return 1 / torch.bincount(y).double()[y]


def require_fixed_items(split: Split, loader: Component) -> None:
    """Check that items which are others each time, or a stream's, are not read once for all epochs."""
    if is_arrays(split.dataset) or not loader.metadata.get("reads_once"):
        return
    if is_stream(split):
        problem = f"{loader.name} reads rows once, and this dataset is a stream"
        raise ConfigError(Fault("loader", f"{problem}; loader=dataloader reads it in each pass"))
    cpu = torch.device("cpu")
    with noise_kept():
        before = noise_state(cpu)
        one, other = (nested.leaves(split.rows([split.dataset[0]])[0]) for _ in range(2))
        drawn = not same_noise(before, noise_state(cpu)) or not all(map(torch.equal, one, other))
    if drawn:
        problem = f"{loader.name} reads each item once, and an item of this dataset is another each time it is read"
        raise ConfigError(Fault("loader", f"{problem}; loader=dataloader reads them each epoch"))


def require_targets(root: RootConfig, spec: DataSpec) -> None:
    """Check that the loss, the metrics and the callbacks take the dataset's kind of target."""
    has = "classes" if spec.classes else "reals"
    words = {"classes": "class labels", "reals": "real targets", "input": "the input"}
    losses = [name for name in register.loss.names if register.loss.get(name).metadata.get("targets") == has]
    chosen = [("loss", register.loss.get(root.loss["name"]), f"losses that do: {', '.join(losses)}")]
    for registry, names in ((register.metric, root.metrics), (register.callback, root.callbacks)):
        keys = {name: f"{registry.group}.{name}" for name in names}
        chosen += [(key, registry.get(name), f"remove it with ~{key}") for name, key in keys.items()]
    faults = []
    for key, component, remedy in chosen:
        takes = component.metadata.get("targets", has)
        if takes not in (has, "input"):
            problem = f"{component.name} takes {words[takes]}, dataset {spec.name} has {words[has]}; {remedy}"
            faults.append(Fault(key, problem))
    _raise(faults)


def require_watched(callbacks: Mapping[str, Callback], metrics: Iterable[str]) -> None:
    """Check that each metric that a callback, by its key, watches is one of the run's or an earlier callback's."""
    known = figure_names(metrics)
    faults = []
    for key, callback in callbacks.items():
        for watched in set(callback.watches) - set(known):
            problem = f"watches {watched!r}, which is not a metric of this run{suggestion(watched, known)}"
            faults.append(Fault(key, problem))
        known += callback.adds
    _raise(faults)


def require_whole_steps(loader: Any, steps: int, root: RootConfig) -> None:
    """Check that a loader's batches are a step's, which `accumulate` makes larger than those configured."""
    if root.accumulate > 1 and len(loader) > steps:
        problem = f"{root.loader['name']} yields {len(loader)} batches an epoch where {steps} are expected"
        raise ConfigError(Fault("accumulate", f"{problem}; it needs a loader that follows its batch size"))


def _raise(faults: Sequence[Fault]) -> None:
    if faults:
        raise ConfigError(*faults)
