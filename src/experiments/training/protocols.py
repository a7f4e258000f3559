"""What the factories of components have to return, and the checks of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from experiments.config.registry import Registry
from experiments.errors import ConfigError, Fault, first_line
from experiments.training import describe
from experiments.training.callback import Callback
from experiments.training.serializable import find_unserializable


class Model(Protocol):
    """An nn.Module, or what trains like one."""

    __call__: Callable[..., Any]
    parameters: Callable[[], Iterable[Tensor]]
    train: Callable[[], Any]
    eval: Callable[[], Any]
    to: Callable[..., Any]


class Optimizer(Protocol):
    """A torch optimiser, or a custom one."""

    step: Callable[[], Any]
    zero_grad: Callable[[], Any]


@runtime_checkable
class Loader(Sized, Iterable[tuple[Tensor, Tensor]], Protocol):
    """Batches (xb, yb) that can be counted."""


class Resumable(Protocol):
    """A part whose state a checkpoint keeps."""

    state_dict: Callable[[], Any]
    load_state_dict: Callable[[Any], Any]


# What a factory has to return, by its group.
RETURNED: dict[str, tuple[type, str]] = {
    "model": (Model, "an nn.Module, or a callable with parameters(), train(), eval(), to(), state_dict()"),
    "optim": (Optimizer, "an optimiser with step() and zero_grad()"),
    "loader": (Loader, "an iterable of batches (xb, yb) with a length"),
    "callbacks": (Callback, "an experiments.Callback"),
}


def made(registry: Registry, settings: Mapping[str, Any], *given: Any) -> Any:
    """Return what a component's factory returns, checked."""
    value = registry.chosen(settings)(*given)
    require_returned(value, registry.group, settings["name"])
    return value


def require_returned(value: Any, group: str, name: str) -> None:
    """Check what the factory `name` of a group returned."""
    kind, expected = RETURNED[group]
    fits = _has_methods(value, kind) if kind in (Model, Optimizer) else isinstance(value, kind)
    if isinstance(value, type) or not fits:
        key = f"{group}.{name}" if group == "callbacks" else group
        raise ConfigError(Fault(key, f"{name} returned {describe.kind(value)}; expected {expected}"))


def require_states(parts: Mapping[str, Any]) -> None:
    """Check that the state of each part, by its key, can be saved and restored; None has no state."""
    faults = []
    for key, part in parts.items():
        if part is None:
            continue
        if not _has_methods(part, Resumable):
            problem = f"{type(part).__name__} must define state_dict() and load_state_dict() to be resumable"
            faults.append(Fault(key, problem))
            continue
        try:
            state = part.state_dict()
            if key.startswith(("callbacks.", "step")):
                copy.deepcopy(part).load_state_dict(state)
        except Exception as error:  # noqa: BLE001  # user code may raise anything
            problem = f"its state_dict() or load_state_dict() raises {type(error).__name__}: {first_line(error)}"
            faults.append(Fault(key, f"{problem}; both may be called before on_begin and the first step"))
            continue
        if not isinstance(state, Mapping):
            faults.append(Fault(key, f"its state_dict() returned {describe.kind(state)}; expected a dict"))
        elif found := find_unserializable(state):
            faults.append(Fault(key, f"its state_dict() holds {found}"))
    if faults:
        raise ConfigError(*faults)


def _has_methods(value: Any, protocol: type) -> bool:
    """Return whether a value has a protocol's methods, of its class or by delegation, which isinstance may not see."""
    return all(callable(getattr(value, name, None)) for name in protocol.__annotations__)
