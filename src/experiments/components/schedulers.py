"""Schedulers: `(optimizer, epochs, steps)` returns an object with step(); `steps` are those of one epoch.

A scheduler declares at its registration when step() is called, `per="step"` or `per="epoch"`; `watches="valid/loss"`,
step() takes that metric of the epoch, or the one in its argument of that name, as `watches="monitor"`;
`any_length=True`, it does not depend on the training's length; `steers=False`, it leaves the optimiser unchanged.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from experiments.config.registry import register
from experiments.errors import ConfigError, Fault


@register.scheduler("constant", per="epoch", any_length=True, steers=False)
def constant(optimizer: Any, epochs: int, steps: int) -> None:  # every scheduler takes these
    """Keep the learning rate."""


@register.scheduler("one_cycle", per="step")
def one_cycle(
    optimizer: Optimizer, epochs: int, steps: int, *, warmup: Annotated[float, Gt(0), Lt(1)] = 0.3
) -> LRScheduler:
    """Rise to the optimiser's lr and fall again (Smith, 2018); the momentum stays."""
    peaks, total = [group["lr"] for group in optimizer.param_groups], epochs * steps
    if warmup * total == 1:  # OneCycleLR divides by the warmup's length less one
        problem = f"{warmup} of {total} steps is a single step; torch's OneCycleLR needs less or more"
        raise ConfigError(Fault("scheduler.warmup", problem))
    return OneCycleLR(optimizer, max_lr=peaks, total_steps=total, pct_start=warmup, cycle_momentum=False)


@register.scheduler("cosine", per="step")
def cosine(optimizer: Optimizer, epochs: int, steps: int, *, final: Annotated[float, Ge(0)] = 0.0) -> LRScheduler:
    """Follow half a cosine from the optimiser's lr to `final`."""
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
    """Multiply the learning rate by `factor` every `every` epochs."""
    return StepLR(optimizer, step_size=every, gamma=factor)


@register.scheduler("plateau", per="epoch", any_length=True, watches="monitor")
def plateau(
    optimizer: Optimizer,
    epochs: int,  # noqa: ARG001  # every scheduler takes these
    steps: int,  # noqa: ARG001
    *,
    monitor: str = "valid/loss",  # noqa: ARG001  # the run passes it to step()
    mode: Literal["min", "max"] = "min",
    factor: Annotated[float, Gt(0), Lt(1)] = 0.1,
    patience: Annotated[int, Ge(0)] = 10,
) -> LRScheduler:
    """Multiply the learning rate by `factor` once a metric has not improved for more than `patience` epochs."""
    return ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)
