"""Transfer: which tensors of other weights a model starts from, and which of its parameters are not trained."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from experiments.config.root import RootConfig
from experiments.errors import ConfigError, Fault, nearest
from experiments.training.weights import State

log = logging.getLogger(__name__)

PREFIX = re.compile(r"^((module|_orig_mod)\.)*")  # of DistributedDataParallel and torch.compile
SHOWN = 5  # names in a message

Frozen = tuple[list[str], list[str]]  # the outermost modules that are frozen as a whole, and single parameters


def is_partial(root: RootConfig) -> bool:
    """Return whether a run may start from a part of the weights that `init_from` names."""
    return root.init_only is not None or root.init_match == "shapes"


def prefix(names: Iterable[str], own: Iterable[str]) -> str:
    """Return what a wrapper put before all names of a file; empty where the model's `own` names have it too."""
    found = {PREFIX.sub("", name): name for name in names}
    before = min((name.removesuffix(bare) for bare, name in found.items()), key=len)
    return "" if all(name.startswith(before) for name in own) else before


def selected(root: RootConfig, state: State, model: Any) -> State:
    """Return the tensors of `state` that a model takes, log the others, raise a ConfigError where those must fit."""
    own: Mapping[str, Tensor] = model.state_dict()
    if before := prefix(state, own):
        log.info("init_from: %s is removed from the names in %s", before, root.init_from)
        state = {name.removeprefix(before): tensor for name, tensor in state.items()}
    if not is_partial(root):
        return state
    names = list(dict.fromkeys([*own, *state]))
    if root.init_only is not None:
        matching("init_only", root.init_only, state, f"tensor in {root.init_from}")
        names = matching("init_only", root.init_only, names, "tensor")
    fits = [n for n in names if n in own and n in state and (is_lazy(own[n]) or own[n].shape == state[n].shape)]
    if (misfits := [name for name in names if name not in fits]) and (root.init_match == "strict" or not fits):
        remedy = "init_match=shapes leaves those out" if fits else "no tensor fits"
        problem = f"not in both {root.init_from} and the model with one shape: {_some(misfits)}; {remedy}"
        raise ConfigError(Fault("init_from", problem))
    for where, left in (("fresh", own), ("not taken", state)):
        if rest := [name for name in left if name not in fits]:
            log.info("init_from: %d tensors taken; %s: %s", len(fits), where, _some(rest))
    return {name: state[name] for name in fits}


def freeze(model: Any, patterns: Sequence[str], name: str) -> None:
    """Exclude parameters from training; a module that is frozen as a whole stays in evaluation mode."""
    modules, single = frozen(model, patterns, name)
    for each in single:
        model.get_parameter(each).requires_grad = False
    for outer in modules:
        for parameter in model.get_submodule(outer).parameters():
            parameter.requires_grad = False  # a lazy layer's has no requires_grad_() yet
        for module in model.get_submodule(outer).eval().modules():
            module.train = partial(_unchanged, module)


def frozen(model: Any, patterns: Sequence[str], name: str) -> Frozen:
    """Return what the patterns of `freeze` select in a model; raise a ConfigError where that is nothing, or all."""
    if not patterns:
        return [], []
    if not isinstance(model, nn.Module):
        raise ConfigError(Fault("freeze", f"needs an nn.Module; model {name} is not one"))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = matching("freeze", patterns, parameters, f"parameter of {name}")
    if {id(each) for each in model.parameters()} == {id(parameters[each]) for each in names}:
        raise ConfigError(Fault("freeze", f"selects all parameters of {name}, so there is nothing to train"))
    modules: list[str] = []
    for path, module in model.named_modules():
        inner = {f"{path}.{each}" for each, _ in module.named_parameters()}
        if path and inner and inner <= set(names) and not _selects(modules, path):
            modules.append(path)
    return modules, [each for each in names if not _selects(modules, each)]


def matching(key: str, patterns: Sequence[str], names: Iterable[str], what: str) -> list[str]:
    """Return the names that a pattern or its module's name matches; raise a ConfigError for one that matches none."""
    names = list(names)
    for pattern in patterns:
        if not any(_selects([pattern], name) for name in names):
            modules = {name.rsplit(".", count)[0] for name in names for count in range(1, name.count(".") + 1)}
            near = nearest(pattern.rstrip(".*"), sorted({*names, *modules}))[:3]
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"available: {_some(names)}"
            raise ConfigError(Fault(key, f"{pattern!r} matches no {what}; {hint}"))
    return [name for name in names if _selects(patterns, name)]


def _selects(patterns: Iterable[str], name: str) -> bool:
    return any(fnmatchcase(name, each) or fnmatchcase(name, f"{each}.*") for each in patterns)


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _unchanged(module: nn.Module, _mode: bool = True) -> nn.Module:
    return module
