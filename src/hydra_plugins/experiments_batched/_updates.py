"""The updates of stacked parameters: the first dimension is the model, each with its own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, optim

from experiments.components.optimizers import ByHand
from experiments.training.torch_private import stepping

Params = Mapping[str, Tensor]


class OwnUpdates:
    """Each model's own optimiser steps, on its part of the stack.

    Args:
        params: the stacked parameters by name, (models, ...).
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        self._taken: dict[int, tuple[Params, Params, Any]] = {}

    @torch.no_grad()
    def take(self, optimizers: Mapping[int, Any], own: Mapping[int, Params]) -> None:
        """Have the trainings' parameters, by slot, be parts of the stack."""
        for slot, params in own.items():
            before = {name: params[name].data for name in self.params}
            for name, stacked in self.params.items():
                params[name].data = stacked[slot].detach()
            self._taken[slot] = params, before, stepping(optimizers[slot])

    @torch.no_grad()
    def give(self) -> None:
        """Have the parameters be the trainings' own again."""
        for params, before, _ in self._taken.values():
            for name, own in before.items():
                params[name].grad, params[name].data = None, own.copy_(params[name].detach())
        self._taken.clear()

    def __call__(self, grads: Params) -> None:
        """Update by stacked gradients, with the learning rates as they are now."""
        parts = {name: grad.unbind() for name, grad in grads.items()}
        for slot, (params, _, step) in self._taken.items():
            for name, each in parts.items():
                params[name].grad = each[slot]
            step()


class StackedSgd:
    """The same for stochastic gradient descent, in a few operations for all models instead of a call for each.

    As torch.optim.SGD documents it; tests check it against that, model by model.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        self._momentum: dict[str, Tensor] = {}

    @torch.no_grad()
    def take(self, optimizers: Mapping[int, Any], own: Mapping[int, Params]) -> None:
        """Take the trainings' settings and momentum; slots without one are not changed."""
        self._optimizers, self._own, self._numbers = optimizers, own, dict[str, dict[str, Tensor]]()
        self._groups = {
            name: {slot: _group_of(own[slot][name], one) for slot, one in optimizers.items()} for name in self.params
        }
        self.set_numbers()
        for name, p in self.params.items():
            if "momentum" in self._numbers[name]:
                self._momentum[name] = torch.zeros_like(p)
                for slot, one in optimizers.items():
                    if (kept := one.state[own[slot][name]].get("momentum_buffer")) is not None:
                        self._momentum[name][slot].copy_(kept)

    def set_numbers(self) -> None:
        """Take the settings as they are now, which a scheduler may change."""
        for name in self.params:
            found = {key: self._each(name, key) for key in ("lr", "momentum", "weight_decay", "nesterov")}
            self._numbers[name] = {key: value for key, value in found.items() if key == "lr" or value.any()}

    @torch.no_grad()
    def give(self) -> None:
        """Copy parameters and momentum to the trainings."""
        for slot, params in self._own.items():
            for name, stacked in self.params.items():
                params[name].copy_(stacked[slot])
                if self._groups[name][slot].get("momentum"):
                    kept = self._momentum[name][slot].clone()
                    self._optimizers[slot].state[params[name]]["momentum_buffer"] = kept

    def __call__(self, grads: Params) -> None:
        """Update by stacked gradients, with the settings that were taken."""
        for name, grad in grads.items():
            p, numbers = self.params[name], self._numbers[name]
            if "weight_decay" in numbers:
                grad = torch.addcmul(grad, p, numbers["weight_decay"])
            if "momentum" in numbers:
                kept = self._momentum[name].mul_(numbers["momentum"]).add_(grad)
                ahead = numbers.get("nesterov")
                grad = kept if ahead is None else torch.where(ahead > 0, grad.addcmul(kept, numbers["momentum"]), kept)
            p.addcmul_(grad, numbers["lr"], value=-1)

    def _each(self, name: str, key: str) -> Tensor:
        """Return a setting of each model, which broadcasts over a stacked parameter."""
        p, groups = self.params[name], self._groups[name]
        values = [float(groups[slot].get(key) or 0) if slot in groups else 0.0 for slot in range(len(p))]
        return torch.tensor(values, dtype=p.dtype, device=p.device).view(-1, *[1] * (p.ndim - 1))


def update_for(optimizer: Any, params: Params) -> OwnUpdates | StackedSgd:
    """Return the update of a stack of trainings with this kind of optimiser."""
    plain = type(optimizer) in (optim.SGD, ByHand)
    unusual = any(group.get("dampening") or group.get("maximize") for group in getattr(optimizer, "param_groups", ()))
    return StackedSgd(params) if plain and not unusual else OwnUpdates(params)


def clipped(grads: Params, limit: Tensor) -> Params:
    """Return each model's gradients with a joint norm of at most its `limit`, (models,), as by clip_grad_norm_."""
    norms = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads.values()]).norm(dim=0)
    scale = (limit / (norms + 1e-6)).clamp(max=1.0)
    return {name: grad * scale.view(-1, *[1] * (grad.ndim - 1)) for name, grad in grads.items()}


def _group_of(p: Tensor, optimizer: Any) -> Mapping[str, Any]:
    """Return the settings of a parameter; one that the optimiser does not have stays as it is."""
    groups: Any = (
        [{"params": optimizer.params, "lr": optimizer.lr}] if isinstance(optimizer, ByHand) else optimizer.param_groups
    )
    return next((group for group in groups if any(p is one for one in group["params"])), {})
