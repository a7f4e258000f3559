"""Tensors that a training changes and no checkpoint has: a resumed training would be another, and nothing would say so.

Only a part that holds tensors outside its state is tried, on a copy.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiments.data import nested
from experiments.errors import ConfigError, Fault


def tensors(part: Any) -> dict[str, Tensor]:
    """Return copies of the tensors that a part holds outside its state_dict(), by attribute; of modules in it, all."""
    return {name: tensor.detach().clone() for name, tensor in _held(part)}


def require_unchanged(before: dict[str, Tensor], part: Any, key: str) -> None:
    """Check that a step of the training left a part's tensors outside its state_dict() as they were `before`.

    Raises:
        ConfigError: it did not.
    """
    for name, tensor in _held(part):
        if name in before and not _same(before[name], tensor):
            problem = f"{type(part).__name__}.{name} is changed by the training, and no state_dict() has it"
            remedy = "a buffer is saved: self.register_buffer(name, tensor)"
            if not isinstance(part, nn.Module):
                remedy = "define state_dict() and load_state_dict()"
            raise ConfigError(Fault(key, f"{problem}, so that a resumed training would be another; {remedy}"))


def require_kept(model: Any, xb: Any) -> None:
    """Check that a forward pass in training changes nothing of a model that is not saved."""
    if not (isinstance(model, nn.Module) and tensors(model)):
        return
    trial = copy.deepcopy(model).train()
    before = tensors(trial)
    with torch.no_grad(), contextlib.suppress(Exception):  # what it raises, the training tells
        trial(xb)
    require_unchanged(before, trial, "model")


def _held(part: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(part, nn.Module):
        for path, module in part.named_modules():
            held = {name: value for name, value in vars(module).items() if not name.startswith("_")}
            held |= {name: module._buffers[name] for name in module._non_persistent_buffers_set}
            yield from _leaves(held, f"{path}." if path else "")
    elif not hasattr(part, "state_dict"):
        held = dict(getattr(part, "__dict__", {}))
        yield from _leaves(held, "")
        for name, value in held.items():
            if isinstance(value, nn.Module):
                yield from ((f"{name}.{inner}", tensor) for inner, tensor in value.state_dict().items())


def _leaves(held: dict[str, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in held.items():
        for tensor in nested.leaves(value):
            yield f"{prefix}{name}", tensor


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
