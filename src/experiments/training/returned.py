"""What factories give back, looked at before there is a run: an own one that gives something else is one message."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

from torch import Tensor

from experiments.data.splits import Splits
from experiments.errors import ConfigError, Fault, suggestion
from experiments.tracking.metric_names import RULE, is_valid
from experiments.training.callback import Callback

MODEL = ("parameters", "train", "eval", "to")
OPTIMISER = ("step", "zero_grad")


def require_splits(made: Any, name: str) -> None:
    """See that a dataset factory gives splits, or a mapping of what they are made of.

    Raises:
        ConfigError: it does not.
    """
    if isinstance(made, Splits):
        return
    if not isinstance(made, Mapping):
        problem = f"{name} gives {told(made)}; a mapping with train and valid is expected"
        raise ConfigError(Fault("dataset", problem))
    known = inspect.signature(Splits.of).parameters
    faults = [Fault("dataset", f"{name} gives {key!r}{suggestion(key, known)}") for key in made if key not in known]
    faults += [Fault("dataset", f"{name} gives no {part!r}") for part in ("train", "valid") if part not in made]
    if faults:
        raise ConfigError(*faults)


def require_loader(loader: Any, name: str) -> None:
    """See that a loader factory gives batches that can be counted.

    Raises:
        ConfigError: it does not.
    """
    if isinstance(loader, type) or not (isinstance(loader, Iterable) and isinstance(loader, Sized)):
        problem = f"{name} gives {told(loader)}; an iterable of batches (xb, yb) with a length is expected"
        raise ConfigError(Fault("loader", problem))


def require_model(model: Any, name: str) -> None:
    """See that a model factory gives a model with something to train.

    Raises:
        ConfigError: it does not.
    """
    expected = "an nn.Module is expected, or what has parameters(), train(), eval(), to(), state_dict()"
    if not callable(model) or isinstance(model, type) or _missing(model, MODEL):
        raise ConfigError(Fault("model", f"{name} gives {told(model)}; {expected}"))
    if not list(model.parameters()):
        raise ConfigError(Fault("model", f"{name} has no parameters, so there is nothing to train"))


def require_optimizer(optimizer: Any, name: str) -> None:
    """See that an optimiser factory gives one.

    Raises:
        ConfigError: it does not.
    """
    if isinstance(optimizer, type) or _missing(optimizer, OPTIMISER):
        raise ConfigError(Fault("optim", f"{name} gives {told(optimizer)}; an optimiser has step() and zero_grad()"))


def require_callback(callback: Any, name: str) -> None:
    """See that a callback factory gives one, whose figures MLflow takes.

    Raises:
        ConfigError: it does not.
    """
    key = f"callbacks.{name}"
    if not isinstance(callback, Callback):
        raise ConfigError(Fault(key, f"{name} gives {told(callback)}; an experiments.Callback is expected"))
    require_figures(callback.adds, key)


def require_figures(names: Sequence[str], key: str) -> None:
    """See that figures have names which MLflow takes.

    Raises:
        ConfigError: one has not.
    """
    for name in names:
        if not is_valid(name):
            raise ConfigError(Fault(key, f"the figure {name!r} cannot be called so: {RULE}"))


def require_scalar(value: Any, key: str, name: str, expected: str) -> None:
    """See that a loss or a metric gives a tensor of one number, without dimensions.

    Raises:
        ConfigError: it does not.
    """
    if not isinstance(value, Tensor) or value.ndim:
        raise ConfigError(Fault(key, f"{name} gives {told(value)}; {expected} is expected"))


def told(value: Any) -> str:
    """What something is, in a message: a tensor by its shape, None as None, anything else by its type."""
    if isinstance(value, Tensor):
        return f"a tensor of the shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _missing(part: Any, methods: Sequence[str]) -> bool:
    return not all(callable(getattr(part, method, None)) for method in methods)
