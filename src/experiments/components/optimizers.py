"""Optimisers: `(params, **arguments)` returns an object with step(), zero_grad() and state_dict().

An optimiser may declare at its registration: `closure=True`, its step() takes a function that clears the gradients,
computes them again and returns the loss; `named=True`, it takes (name, parameter) pairs, `model.named_parameters()`.
One that is not a torch.optim.Optimizer may declare: `capturable=True`, a CUDA graph can capture its step;
`schedulable=False`, no scheduler can change its learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Len, Lt
from torch import Tensor, optim

from experiments.config.registry import register

Rate = Annotated[float, Gt(0)]
Decay = Annotated[float, Ge(0)]
Betas = Annotated[list[Annotated[float, Ge(0), Lt(1)]], Len(2, 2)]


class ByHand:
    """Stages 1 to 4: the update written out."""

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self.params = list(params)
        self.lr = lr

    def step(self) -> None:
        """Compute p -= p.grad * lr, under no_grad, since autograd would record the update."""
        with torch.no_grad():
            for p in self.params:
                if p.grad is not None:
                    p -= p.grad * self.lr

    def zero_grad(self) -> None:
        """Clear every gradient, since backward() adds to the existing ones."""
        for p in self.params:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return the learning rate."""
        return {"lr": self.lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state_dict()."""
        self.lr = state["lr"]


@register.optim("by_hand", capturable=True, schedulable=False)
def by_hand(params: Iterable[Tensor], *, lr: Rate = 0.5) -> ByHand:
    """Return the tutorial's update, without torch.optim."""
    return ByHand(params, lr)


@register.optim("sgd")
def sgd(
    params: Iterable[Tensor],
    *,
    lr: Rate = 0.5,
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0,
    weight_decay: Decay = 0.0,
    fused: bool = True,
) -> optim.Optimizer:
    """Return stochastic gradient descent, with momentum or without."""
    return optim.SGD(params, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)


@register.optim("adam")
def adam(
    params: Iterable[Tensor],
    *,
    lr: Rate = 1e-3,
    betas: Betas = [0.9, 0.999],  # noqa: B006  # never changed: it is only read
    weight_decay: Decay = 0.0,
    fused: bool = True,
) -> optim.Optimizer:
    """Return Adam (Kingma and Ba, 2015)."""
    return optim.Adam(params, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay, fused=fused)


@register.optim("adamw")
def adamw(
    params: Iterable[Tensor],
    *,
    lr: Rate = 1e-3,
    betas: Betas = [0.9, 0.999],  # noqa: B006  # never changed: it is only read
    weight_decay: Decay = 0.01,
    fused: bool = True,
) -> optim.Optimizer:
    """Return Adam with the decay applied to the weights (Loshchilov and Hutter, 2019)."""
    return optim.AdamW(params, lr=lr, betas=(betas[0], betas[1]), weight_decay=weight_decay, fused=fused)


@register.optim("lbfgs", closure=True)
def lbfgs(
    params: Iterable[Tensor],
    *,
    lr: Rate = 1.0,
    max_iter: Annotated[int, Ge(1)] = 20,
    line_search_fn: Literal["strong_wolfe"] | None = None,
) -> optim.Optimizer:
    """Return L-BFGS, which evaluates a batch up to some 25 times in a step; for batches of all rows."""
    return optim.LBFGS(params, lr=lr, max_iter=max_iter, line_search_fn=line_search_fn)
