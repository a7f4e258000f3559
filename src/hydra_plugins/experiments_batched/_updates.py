"""The updates of torch's optimisers over stacked tensors: the first dimension is the model, each with its own numbers.

Written from torch's documented formulas (https://docs.pytorch.org/docs/stable/optim.html); tests check each against
torch's own, model by model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, optim

from experiments.components.optimizers import ByHand

# What each keeps of a parameter, beside Adam's number of steps; by the exact type, since a subclass may do otherwise.
ADAMS = (optim.Adam, optim.AdamW)
STATES: Mapping[type, Sequence[str]] = {
    ByHand: (),
    optim.SGD: ("momentum_buffer",),
    **dict.fromkeys(ADAMS, ("exp_avg", "exp_avg_sq")),
}
NUMBERS = ("momentum", "weight_decay", "nesterov", "eps")
UNSUPPORTED = ("dampening", "amsgrad", "maximize")


def fault(optimizer: Any) -> str:
    """Return why an optimiser has no stacked update; empty where it has."""
    if type(optimizer) not in STATES:
        return f"{type(optimizer).__name__} has no stacked update"
    used = [name for group in _groups(optimizer) for name in UNSUPPORTED if group.get(name)]
    return f"the optimiser's {used[0]} has no stacked update" if used else ""


class StackedUpdate:
    """The update of `size` models, as `kind`, an optimiser's type, makes it of one.

    Args:
        params: the stacked parameters by name, (models, ...).
    """

    def __init__(self, kind: type, size: int, params: Mapping[str, Tensor]) -> None:
        self.kind, self.size, self.params = kind, size, params
        self.state = {name: {key: torch.zeros_like(p) for key in STATES[kind]} for name, p in params.items()}
        self.steps = {name: self._number(name, [0] * size) for name in params}
        self._groups: dict[str, list[dict[str, Any]]] = {}
        self._numbers: dict[str, dict[str, Tensor]] = {}
        self._rates: dict[str, Tensor] = {}

    def take(self, slot: int, optimizer: Any, params: Mapping[str, Tensor]) -> None:
        """Copy the state that an optimiser has of a model's parameters."""
        for name, stacked in self.state.items():
            known = getattr(optimizer, "state", {}).get(params[name], {})
            for key, kept in stacked.items():
                found = known.get(key)
                kept[slot].zero_() if found is None else kept[slot].copy_(found)
            self.steps[name][slot] = float(known.get("step", 0))

    def give(self, slot: int, optimizer: Any, params: Mapping[str, Tensor], updated: Iterable[str]) -> None:
        """Copy a model's state back, of the parameters that were updated."""
        for name in updated:
            kept = {key: stacked[slot].clone() for key, stacked in self.state[name].items()}
            if self.kind in ADAMS:
                kept["step"] = self.steps[name][slot].reshape(()).float()
            if kept and (self.kind in ADAMS or self._groups[name][slot]["momentum"]):
                optimizer.state[params[name]].update(kept)

    def set(self, optimizers: Sequence[Any], params: Sequence[Mapping[str, Tensor]]) -> None:
        """Take each model's settings, of the group that a parameter is in."""
        for name, p in self.params.items():
            pairs = zip(optimizers, params, strict=True)
            groups = self._groups[name] = [_group_of(own[name], one) for one, own in pairs]
            found = {key: self._number(name, [float(one.get(key) or 0) for one in groups]) for key in NUMBERS}
            self._numbers[name] = {key: value.to(p.dtype) for key, value in found.items() if value.any()}
            if self.kind in ADAMS:
                for i, key in enumerate(("beta1", "beta2")):
                    self._numbers[name][key] = self._number(name, [one["betas"][i] for one in groups])
        self.set_rates()

    def set_rates(self) -> None:
        """Take each model's learning rates as they are now."""
        for name, p in self.params.items():
            rates = self._number(name, [float(group["lr"]) for group in self._groups[name]])
            self._rates[name] = rates if self.kind in ADAMS else rates.to(p.dtype)

    def __call__(self, name: str, grad: Tensor) -> None:
        """Update one stacked parameter by its gradient, which is overwritten."""
        p, numbers, rate = self.params[name], self._numbers[name], self._rates[name]
        if self.kind in ADAMS:
            self._adam(name, p, grad, rate, numbers)
            return
        if "weight_decay" in numbers:
            grad.addcmul_(p, numbers["weight_decay"])
        if "momentum" in numbers:
            kept = self.state[name]["momentum_buffer"].mul_(numbers["momentum"]).add_(grad)
            ahead = numbers.get("nesterov")
            grad = kept if ahead is None else torch.where(ahead > 0, grad.addcmul(kept, numbers["momentum"]), kept)
        p.addcmul_(grad, rate, value=-1)

    def _adam(self, name: str, p: Tensor, grad: Tensor, rate: Tensor, numbers: Mapping[str, Tensor]) -> None:
        done = self.steps[name].add_(1)
        beta1, beta2 = numbers["beta1"], numbers["beta2"]
        if "weight_decay" in numbers and self.kind is optim.AdamW:
            p.mul_((1 - rate * numbers["weight_decay"]).to(p.dtype))
        elif "weight_decay" in numbers:
            grad.addcmul_(p, numbers["weight_decay"])
        mean, square = self.state[name]["exp_avg"], self.state[name]["exp_avg_sq"]
        mean.lerp_(grad, (1 - beta1).to(p.dtype))
        square.lerp_(grad.square_(), (1 - beta2).to(p.dtype))
        # lr / bias1 * mean / (sqrt(square / bias2) + eps), with the numbers of one model taken together first.
        bias = (1 - beta2**done).sqrt()
        divisor = torch.sqrt(square, out=grad)
        if "eps" in numbers:
            divisor.add_((numbers["eps"] * bias).to(p.dtype))
        p.addcmul_(torch.div(mean, divisor, out=divisor), (rate * bias / (1 - beta1**done)).to(p.dtype), value=-1)

    def _number(self, name: str, values: Sequence[float]) -> Tensor:
        """Return a number of each model, which broadcasts over a stacked parameter."""
        p = self.params[name]
        found = torch.tensor(values, dtype=torch.float64, device=p.device)
        return found.view(self.size, *[1] * (p.ndim - 1))


def clip(grads: Iterable[Tensor], limit: Tensor) -> None:
    """Scale each model's gradients to a joint norm of at most its `limit`, (models,), as clip_grad_norm_ does."""
    grads = list(grads)
    norms = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads]).norm(dim=0)
    scale = (limit / (norms + 1e-6)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(scale.view(-1, *[1] * (grad.ndim - 1)))


def _groups(optimizer: Any) -> list[dict[str, Any]]:
    if isinstance(optimizer, ByHand):
        return [{"params": optimizer.params, "lr": optimizer.lr}]
    return optimizer.param_groups  # type: ignore[no-any-return]  # of Any


def _group_of(p: Tensor, optimizer: Any) -> dict[str, Any]:
    """Return the settings of a parameter; those of one that the optimiser does not have leave it as it is."""
    found = (group for group in _groups(optimizer) if any(p is one for one in group["params"]))
    return next(found, {"lr": 0.0, "betas": (0.0, 0.0), "eps": 1.0})
