"""A run's loss, made and checked, and its mean: a loss returns the mean over a batch's rows, or (sum, weight)."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from experiments import ranks
from experiments.config.registry import Registry
from experiments.data import nested
from experiments.data.splits import Splits
from experiments.errors import ConfigError, Fault
from experiments.seeds import seed_noise

log = logging.getLogger(__name__)


def mean(loss: Any) -> Any:
    """Return the mean of what a loss returned."""
    return loss[0] / loss[1] if isinstance(loss, tuple) else loss


def made(registry: Registry, settings: Mapping[str, Any], splits: Splits, device: torch.device, seed: int) -> Any:
    """Return a loss or step to be called with a batch: a function, or an instance of a class, on the device.

    Raises:
        ConfigError: it has parameters, which nothing would train.
    """
    bound, component = registry.chosen(settings), registry.get(settings["name"])
    if not inspect.isclass(component.factory):
        return bound
    name, passed = component.name, registry.passed_to(component)
    seed_noise(seed)
    instance = bound(*({"data": splits.spec, "counts": splits.class_counts}[value] for value in passed))
    if isinstance(instance, nn.Module):
        if trained := [part for part, p in instance.named_parameters() if p.requires_grad]:
            remedy = "call self.requires_grad_(False), or let the model have what is to be trained"
            raise ConfigError(
                Fault(registry.group, f"{name} has parameters that nothing trains ({trained[0]}); {remedy}")
            )
        nn.Module.train(instance.to(device), mode=False)  # a step has another `train`
    return instance


def require_mean(loss: Callable[..., Any], pred: Any, target: Any, name: str) -> None:
    """Check that a loss is no sum over a batch's rows; warn where its mean depends on which rows share a batch."""

    def of(rows: slice, times: int = 1) -> float:
        given = (nested.apply(lambda part: torch.cat([part[rows]] * times), value) for value in (pred, target))
        return float(mean(loss(*given)))

    size = nested.rows(target)
    half = size // 2
    if isinstance(loss(pred, target), tuple):
        if ranks.world() > 1:
            raise ConfigError(Fault("loss", f"{name} returns its weight, which processes do not share; train in one"))
        return
    if half == 0:
        return
    try:
        whole, again, twice = of(slice(None)), of(slice(None)), of(slice(None), 2)
        first, second = of(slice(half)), of(slice(half, None))
    except (RuntimeError, ValueError, IndexError):  # it may need whole batches
        return
    by_rows = (half * first + (size - half) * second) / size
    if whole and _close(twice, 2 * whole) and _close(first + second, whole):
        problem = f"{name} sums over the rows: {whole:.4g}, and {twice:.4g} for the same rows twice"
        raise ConfigError(Fault("loss", f"{problem}; return the mean, as reduction='mean' does"))
    if whole == again and not _close(by_rows, whole):  # else it draws random numbers
        log.warning(
            "loss %s depends on which rows share a batch (%.4g together, %.4g as two halves), and so valid/loss on "
            "loader.valid_batch_size; a loss that returns (sum, weight) has an exact mean",
            *(name, whole, by_rows),
        )


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)
