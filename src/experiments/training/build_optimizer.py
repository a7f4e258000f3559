"""Build the optimiser and its scheduler, and check what their step() takes."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from experiments.config.registry import register
from experiments.config.root import RootConfig
from experiments.errors import ConfigError, Fault, first_line, suggestion
from experiments.seeds import noise_kept
from experiments.training import protocols
from experiments.training.param_groups import grouped, without_decay
from experiments.training.result import figure_names

# What user code raises that gets names instead of parameters, or groups of them, or the reverse.
ERRORS = (ValueError, TypeError, AttributeError, RuntimeError, IndexError)
# What one group of parameters cannot have otherwise than another.
WHOLE = {"params", "name", "fused", "foreach", "capturable", "differentiable"}

Groups = str | Mapping[str, Mapping[str, Any]]


def optimizer(root: RootConfig, model: Any, *, resumable: bool = False) -> Any:
    """Return the configured optimiser of a model's parameters, which may be in groups or named.

    Raises:
        ConfigError: it cannot be made of these; or, if it has to be `resumable`, a checkpoint would lack gradients.
    """
    name, groups = root.optim["name"], groups_of(root)
    named = bool(register.optim.get(name).metadata.get("named"))

    def make(model: Any, *, named: bool = named) -> Any:
        given: Any = [one for _, one in _trained(model, root)] if root.freeze else model.parameters()
        if groups or named:
            given = _in_groups(_trained(model, root), groups) if groups else _trained(model, root)
        return register.optim.chosen(root.optim)(given)

    try:
        made = make(model)
    except ERRORS as error:
        problem = f"{name} cannot be made{' with optim.groups' if groups else ''}: {first_line(error)}"
        if not named and not groups:
            with contextlib.suppress(*ERRORS):
                make(model, named=True)
                problem = f'it takes the parameters with their names; declare @register.optim("{name}", named=True)'
        raise ConfigError(Fault("optim", problem)) from error
    protocols.require_returned(made, "optim", name)
    if groups:
        _require_groups(made, groups, root)
    if resumable and getattr(made.zero_grad, "__func__", None) is not torch.optim.Optimizer.zero_grad:
        _require_cleared(make, model, name)
    return made


def groups_of(root: RootConfig) -> Groups | None:
    """Return the settings of parameters by patterns, "no_decay", or None."""
    return None if "groups" in register.optim.own(root.optim) else root.optim.get("groups") or None


def scheduler(root: RootConfig, steered: Any, steps: int) -> tuple[Any, str | None]:
    """Return the configured scheduler, None for a constant rate, and the metric that its step() takes.

    Raises:
        ConfigError: it cannot be made for this optimiser, or its step() takes what the run has not.
    """
    name, known = root.scheduler["name"], [one for one in figure_names(root.metrics) if one[:6] in ("train/", "valid/")]
    try:
        made = register.scheduler.chosen(root.scheduler)(steered, root.epochs, steps)
    except (ValueError, TypeError) as error:
        if isinstance(steered, torch.optim.Optimizer):
            raise ConfigError(Fault("scheduler", f"{name} cannot be made: {first_line(error)}")) from error
        problem = f"{name} needs a torch optimiser, optim {root.optim['name']} is not one ({error})"
        raise ConfigError(Fault("scheduler", f"{problem}; use a constant learning rate")) from error
    metadata = register.scheduler.get(name).metadata
    watched = metadata.get("watches", "valid/loss" if isinstance(made, ReduceLROnPlateau) else None)
    watched = watched and root.scheduler.get(watched, watched)  # or the argument that names it
    if watched is None and made is not None and (missing := _required(made)):
        problem = f'its step() needs {missing}; declare @register.scheduler("{name}", watches="valid/loss")'
    elif watched is not None and watched not in known:
        problem = f"watches {watched!r}, which is not a metric of this run{suggestion(watched, known)}"
    elif watched is not None and metadata.get("per", "epoch") != "epoch":
        problem = f'watches {watched}, known after an epoch; declare per="epoch"'
    else:
        return made, watched
    raise ConfigError(Fault("scheduler", f"{name}: {problem}"))


def takes_closure(made: Any, name: str) -> bool:
    """Return whether an optimiser's step() takes a closure; refuse one that takes something and does not declare it."""
    if register.optim.get(name).metadata.get("closure") or isinstance(made, torch.optim.LBFGS):
        return True
    if missing := _required(made):
        remedy = f'if that evaluates the batch, declare @register.optim("{name}", closure=True)'
        raise ConfigError(Fault("optim", f"the step() of {name} needs {missing}; {remedy}"))
    return False


def _trained(model: Any, root: RootConfig) -> list[tuple[str, torch.Tensor]]:
    """Return the parameters that an optimiser gets, by name."""
    return [(name, one) for name, one in model.named_parameters() if one.requires_grad or not root.freeze]


def _in_groups(named: Sequence[tuple[str, torch.Tensor]], groups: Groups) -> list[dict[str, Any]]:
    if isinstance(groups, str):
        return without_decay(named)
    found = grouped(named, groups)
    for pattern in groups.keys() - {group["name"] for group in found}:
        problem = f"{pattern!r} matches no parameter that no earlier pattern matches"
        raise ConfigError(Fault("optim.groups", f"{problem}{suggestion(pattern, [name for name, _ in named])}"))
    return found


def _require_groups(made: Any, groups: Groups, root: RootConfig) -> None:
    """Check that an optimiser keeps its groups, and takes their settings."""
    name, registry = root.optim["name"], register.optim
    if not any("name" in group for group in getattr(made, "param_groups", [])):
        raise ConfigError(Fault("optim.groups", f"{name} does not keep the groups that it gets; torch optimisers do"))
    known, faults = set(getattr(made, "defaults", {})) - WHOLE, []
    for pattern, settings in {"no_decay": {"weight_decay": 0.0}}.items() if isinstance(groups, str) else groups.items():
        key = f"optim.groups.{pattern}"
        faults += [Fault(key, f"unknown key{suggestion(one, known)}") for one in settings if one not in known]
        own = {one: value for one, value in settings.items() if one in registry.arguments(name)}
        faults += registry.faults(name, registry.own(root.optim) | own, key=key)
    if faults:
        raise ConfigError(*faults)


def _require_cleared(make: Callable[[Any], Any], model: Any, name: str) -> None:
    """Check on a copy that an own zero_grad() clears the gradients, since no checkpoint keeps them."""
    kept = False
    with noise_kept(), contextlib.suppress(Exception):  # user code that cannot be tried is tried in the training
        trial = make(copy.deepcopy(model))
        params = [p for group in trial.param_groups for p in group["params"]]
        for p in params:
            p.grad = torch.ones_like(p)
        trial.step()
        trial.zero_grad()
        kept = any(p.grad is not None and p.grad.any() for p in params)
    if kept:
        problem = f"{name} keeps gradients after zero_grad(), which no checkpoint has"
        remedy = "with a plain one, such as optim=sgd, accumulate=K has each step take K batches"
        raise ConfigError(Fault("optim", f"{problem}; {remedy}"))


def _required(made: Any) -> str:
    """Return the parameters of step() that have no default, in words; empty for none."""
    step = getattr(type(made), "step", None)  # torch's schedulers put another in an optimiser's place
    parameters = list(inspect.signature(step or made.step).parameters.values())[step is not None :]
    return ", ".join(p.name for p in parameters if p.default is p.empty and "VAR" not in p.kind.name)
