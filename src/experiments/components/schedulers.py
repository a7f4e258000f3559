"""Schedulers: `(optimizer, epochs, steps)` gives an object with step(), called once a step or once an epoch.

`epochs` is the training's length, `steps` the steps of one epoch. A scheduler says at its registration when it is
called, `per="step"` or `per="epoch"`; with `any_length=True` that it does not depend on the training's length, and with
`steers=False` that it leaves the optimiser alone.
"""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR

from experiments.config.registry import register
from experiments.errors import ConfigError, Fault


@register.scheduler("constant", per="epoch", any_length=True, steers=False)
def constant(optimizer: Any, epochs: int, steps: int) -> None:  # every scheduler takes these
    """No scheduler: the learning rate stays."""


@register.scheduler("one_cycle", per="step")
def one_cycle(
    optimizer: Optimizer, epochs: int, steps: int, *, warmup: Annotated[float, Gt(0), Lt(1)] = 0.3
) -> LRScheduler:
    """Up to the optimiser's lr and down again (Smith, 2018), the momentum left alone."""
    peak, total = optimizer.param_groups[0]["lr"], epochs * steps
    if warmup * total == 1:  # OneCycleLR divides by the warmup's length less one
        problem = f"{warmup} of {total} steps is a single step; torch's OneCycleLR needs less or more"
        raise ConfigError(Fault("scheduler.warmup", problem))
    return OneCycleLR(optimizer, max_lr=peak, total_steps=total, pct_start=warmup, cycle_momentum=False)


@register.scheduler("cosine", per="step")
def cosine(optimizer: Optimizer, epochs: int, steps: int, *, final: Annotated[float, Ge(0)] = 0.0) -> LRScheduler:
    """Half a cosine from the optimiser's lr to `final`."""
    return CosineAnnealingLR(optimizer, T_max=epochs * steps, eta_min=final)


@register.scheduler("step", per="epoch", any_length=True)
def step(
    optimizer: Optimizer,
    epochs: int,  # noqa: ARG001  # every scheduler takes these
    steps: int,  # noqa: ARG001
    *,
    every: Annotated[int, Ge(1)] = 1,
    factor: Annotated[float, Gt(0)] = 0.1,
) -> LRScheduler:
    """The learning rate times `factor` every `every` epochs."""
    return StepLR(optimizer, step_size=every, gamma=factor)
