"""Whether the parts of a training fit together, seen before there is a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.config.registry import Component, register
from experiments.config.root import RootConfig
from experiments.data.batches import Batches
from experiments.data.splits import DataSpec
from experiments.errors import ConfigError, DataError, Fault, suggestion
from experiments.training import returned
from experiments.training.callback import Callback
from experiments.training.checkpoint import find_unserializable
from experiments.training.meters import Metric
from experiments.training.runner import figure_names
from experiments.training.step import Forward


def require_shape(model: Component, spec: DataSpec) -> None:
    """See that a model which says at its registration that it takes pictures of one `shape` is given such.

    Raises:
        ConfigError: it is not.
    """
    shape = model.metadata.get("shape", spec.shape)
    if shape != spec.shape:
        (channels, height, width), (own_channels, own_height, own_width) = shape, spec.shape
        fixed = "one channel" if channels == 1 else f"{channels} channels"
        problem = (
            f"{model.name} is fixed to {fixed} of {height}x{width}; "
            f"dataset {spec.name} has {own_channels} of {own_height}x{own_width}; model=cnn_adaptive takes any size"
        )
        raise ConfigError(Fault("model", problem))


def require_targets(root: RootConfig, spec: DataSpec) -> None:
    """See that the loss, the metrics and the callbacks take the dataset's kind of target.

    Raises:
        ConfigError: some do not.
    """
    has = "classes" if spec.classes else "reals"
    words = {"classes": "class labels", "reals": "real targets"}
    chosen = [
        ("loss", register.loss.get(root.loss["name"]), "loss=mse does" if has == "reals" else "loss=cross_entropy does")
    ]
    chosen += [
        (f"metrics.{name}", register.metric.get(name), f"leave it out with ~metrics.{name}") for name in root.metrics
    ]
    chosen += [
        (f"callbacks.{name}", register.callback.get(name), f"leave it out with ~callbacks.{name}")
        for name in root.callbacks
    ]
    faults = []
    for key, component, remedy in chosen:
        takes = component.metadata.get("targets", has)
        if takes != has:
            problem = f"{component.name} takes {words[takes]}, dataset {spec.name} has {words[has]}; {remedy}"
            faults.append(Fault(key, problem))
    if faults:
        raise ConfigError(*faults)


def require_states(parts: Mapping[str, Any], root: RootConfig) -> None:
    """See that everything that changes in a training can be saved and put back.

    Raises:
        ConfigError: something cannot.
    """
    faults = []
    for key, part in parts.items():
        if part is None:
            continue
        if missing := [name for name in ("state_dict", "load_state_dict") if not hasattr(part, name)]:
            problem = f"{getattr(root, key)['name']} has no {' and no '.join(missing)}; a run that goes on needs both"
            faults.append(Fault(key, problem))
        elif found := find_unserializable(part.state_dict()):
            faults.append(Fault(key, f"its state_dict() holds {found}"))
    if faults:
        raise ConfigError(*faults)


def require_watched(callbacks: Mapping[str, Callback], metrics: Sequence[str]) -> None:
    """See that every figure that a callback watches is one of the run's, or added by a callback before it.

    Raises:
        ConfigError: one is not.
    """
    known = figure_names(metrics)
    faults = []
    for name, callback in callbacks.items():
        for figure in set(callback.watches) - set(known):
            problem = f"it watches {figure!r}, which is no figure of this run{suggestion(figure, known)}"
            faults.append(Fault(f"callbacks.{name}", problem))
        known += callback.adds
    if faults:
        raise ConfigError(*faults)


def require_one_batch(
    forward: Forward, valid: Batches, metrics: Mapping[str, Metric], root: RootConfig, spec: DataSpec
) -> None:
    """See by one forward pass over a batch that data, model, loss and metrics take each other.

    Raises:
        ConfigError: one does not.
    """
    try:
        xb, yb = next(valid.epoch(0))
    except (TypeError, ValueError, DataError) as error:
        raise ConfigError(Fault("loader", f"{root.loader['name']} cannot read dataset {spec.name}: {error}")) from error
    xb, yb = xb.to(forward.device), yb.to(forward.device)
    pred = _predictions(forward, root.model["name"], spec, xb)
    measured = {"loss": (root.loss["name"], forward.loss, "a scalar mean")}
    measured |= {f"metrics.{key}": (key, metric, "a scalar sum over rows") for key, metric in metrics.items()}
    for key, (name, function, expected) in measured.items():
        try:
            value = function(pred, yb)
        except (RuntimeError, ValueError, IndexError) as error:
            problem = f"{name} cannot take predictions {tuple(pred.shape)}, targets {tuple(yb.shape)}"
            raise ConfigError(Fault(key, f"{problem}: {_first_line(error)}")) from error
        returned.require_scalar(value, key, name, expected)


def _predictions(forward: Forward, name: str, spec: DataSpec, xb: Tensor) -> Tensor:
    """The model's, for rows of the dataset: one for each row, and each of the dataset's number of outputs."""
    forward.model.eval()
    try:
        with torch.no_grad():
            pred = forward.predict(xb)
    except (RuntimeError, ValueError, IndexError) as error:
        problem = f"{name} cannot take dataset {spec.name}, batches of {tuple(xb.shape)}: {_first_line(error)}"
        raise ConfigError(Fault("model", problem)) from error
    if isinstance(pred, Tensor) and pred.shape == (len(xb), spec.outputs):
        return pred
    kind = "classes" if spec.classes else "target columns"
    given = tuple(pred.shape) if isinstance(pred, Tensor) else returned.told(pred)
    problem = (
        f"{name} gives {given} for {len(xb)} rows; dataset {spec.name} has {spec.outputs} {kind}, "
        f"so {(len(xb), spec.outputs)} is expected"
    )
    raise ConfigError(Fault("model", problem))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
