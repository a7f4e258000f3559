"""Checks, before a run starts, that components return what a training needs and fit together.

Each raises a ConfigError that names the component, what it returned or takes, and what was expected.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from experiments.config.registry import Component, register
from experiments.config.root import RootConfig
from experiments.data import nested
from experiments.data.batches import Batches
from experiments.data.splits import DataSpec, Splits
from experiments.errors import ConfigError, DataError, Fault, first_line, suggestion
from experiments.tracking.metric_names import RULE, is_valid
from experiments.training import describe
from experiments.training.callback import Callback
from experiments.training.losses import mean, require_mean
from experiments.training.meters import Metric
from experiments.training.runner import figure_names
from experiments.training.step import Forward, PairTransform


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


def require_shape(model: Component, spec: DataSpec) -> None:
    """Check that a model registered for images of one `shape` gets such images."""
    shape = model.metadata.get("shape", spec.shape)
    if shape != spec.shape:
        free = [name for name in register.model.names if "shape" not in register.model.get(name).metadata]
        problem = (
            f"{model.name} takes images of shape {shape}, dataset {spec.name} has {spec.shape}; "
            f"models of any shape: {', '.join(free)}"
        )
        raise ConfigError(Fault("model", problem))


def require_targets(root: RootConfig, spec: DataSpec) -> None:
    """Check that the loss, the metrics and the callbacks take the dataset's kind of target."""
    has = "classes" if spec.classes else "reals"
    words = {"classes": "class labels", "reals": "real targets"}
    losses = [name for name in register.loss.names if register.loss.get(name).metadata.get("targets") == has]
    chosen = [("loss", register.loss.get(root.loss["name"]), f"losses that do: {', '.join(losses)}")]
    for registry, names in ((register.metric, root.metrics), (register.callback, root.callbacks)):
        keys = {name: f"{registry.group}.{name}" for name in names}
        chosen += [(key, registry.get(name), f"remove it with ~{key}") for name, key in keys.items()]
    faults = []
    for key, component, remedy in chosen:
        takes = component.metadata.get("targets", has)
        if takes != has:
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


def require_last_batch(forward: Forward, train: Batches, valid: Batches, name: str) -> None:
    """Check that the model trains on one row where the last training batch has one, as batch norm cannot."""
    rows, size = len(train.split), train.batch_size
    if len(train) < len(train.loader) or not (size == 1 or rows % size == 1):
        return
    xb = next(valid.epoch(0))[0][:1].to(forward.device)
    other = next(other for other in count(size + 1) if rows % other != 1)
    problem = f"{rows:,} training rows in batches of {size} leave one row for the last, which {name} cannot train on"
    with refused("loader.batch_size", f"{problem} (try {other})", (ValueError,)):
        forward.compute(copy.deepcopy(forward.model).train(), xb)


def require_one_batch(
    forward: Forward, valid: Batches, metrics: Mapping[str, Metric], root: RootConfig, spec: DataSpec
) -> None:
    """Check by one batch, without a backward pass, that data, model, loss and metrics fit together."""
    problem = f"{root.loader['name']} cannot read dataset {spec.name}"
    with refused("loader", problem, (TypeError, ValueError, DataError)):
        xb, yb = next(valid.epoch(0))
    xb, yb = xb.to(forward.device), yb.to(forward.device)
    pred = _predictions(forward, root.model["name"], spec, xb)
    measured = {"loss": (root.loss["name"], forward.loss, "a scalar mean")}
    measured |= {f"metrics.{key}": (key, metric, "a scalar sum over rows") for key, metric in metrics.items()}
    for key, (name, function, expected) in measured.items():
        with refused(key, f"{name} cannot take predictions {tuple(pred.shape)}, targets {tuple(yb.shape)}"):
            value = mean(function(pred, yb)) if key == "loss" else function(pred, yb)
        if not isinstance(value, Tensor) or value.ndim:
            raise ConfigError(Fault(key, f"{name} returned {describe.kind(value)}; expected {expected}"))
    require_mean(forward.loss, pred, yb, root.loss["name"])
    if not _learns(forward, xb[:2], yb[:2]):
        problem = "has an output without a gradient (detached, or of frozen parameters), so there is nothing to train"
        raise ConfigError(Fault("model", f"{root.model['name']} {problem}"))


def require_pairs(forward: Forward, valid: Batches, pairs: Mapping[str, PairTransform]) -> None:
    """Check by one batch that each transform of pairs works, and that the loss takes its targets."""
    xb, yb = (nested.apply(lambda part: part.to(forward.device), part) for part in next(valid.epoch(0)))
    for name, pair in pairs.items():
        problem = f"{name} or the loss cannot take this batch"
        with refused(f"transforms.{name}", problem, (RuntimeError, ValueError, IndexError, TypeError, AttributeError)):
            mixed, target = pair(xb, yb)
            forward.mean_loss(forward.predict(mixed), target)


def _learns(forward: Forward, xb: Tensor, yb: Tensor) -> bool:
    """Return whether the loss has a gradient in evaluation or, on a copy of the model, in training."""
    with torch.enable_grad():
        loss = forward.mean_loss(forward.predict(xb), yb)
        return loss.requires_grad or forward.mean_loss(copy.deepcopy(forward.model).train()(xb), yb).requires_grad


def _predictions(forward: Forward, name: str, spec: DataSpec, xb: Tensor) -> Tensor:
    """Return the model's predictions, checked to be (rows, the dataset's outputs)."""
    forward.model.eval()
    problem = f"{name} cannot take dataset {spec.name}, batches of {tuple(xb.shape)}"
    derives = f"{name} takes derivatives in evaluation, which needs gradients=True at its registration"
    with torch.set_grad_enabled(forward.gradients), refused("model", problem):
        try:
            pred = forward.predict(xb)
            pred = nested.apply(Tensor.detach, pred) if forward.gradients else pred
        except RuntimeError as error:
            raise (ConfigError(Fault("model", derives)) if "not require grad" in str(error) else error) from error
    expected = (len(xb), spec.outputs)
    if isinstance(pred, Tensor) and pred.shape == expected:
        return pred
    kind = "classes" if spec.classes else "target columns"
    problem = f"dataset {spec.name} has {spec.outputs} {kind}, so expected shape {expected} for {len(xb)} rows"
    raise ConfigError(Fault("model", f"{name} returned {describe.kind(pred)}; {problem}"))


@contextlib.contextmanager
def refused(
    key: str, problem: str, errors: tuple[type[Exception], ...] = (RuntimeError, ValueError, IndexError)
) -> Iterator[None]:
    """Turn errors of a component into a ConfigError that starts with the problem."""
    try:
        yield
    except ConfigError:
        raise
    except errors as error:
        raise ConfigError(Fault(key, f"{problem}: {first_line(error)}")) from error


def _raise(faults: Sequence[Fault]) -> None:
    if faults:
        raise ConfigError(*faults)
