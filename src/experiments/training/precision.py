"""The precision that a training computes in: float32, or autocast around forward and loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from experiments.config.device import DeviceConfig
from experiments.data import nested
from experiments.errors import ConfigError, Fault

# Calls a model or a loss, (function, *arguments), in the run's precision.
Compute = Callable[..., Any]

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def call(function: Callable[..., Any], *given: Any) -> Any:
    """Return the function's result, in its arguments' precision."""
    return function(*given)


class Autocast:
    """Calls under autocast; results are float32 again, so that losses and sums lose nothing more."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.context = torch.autocast(device.type, dtype=dtype)

    def __call__(self, function: Callable[..., Any], *given: Any) -> Any:
        """Return the function's result, in float32."""
        with self.context:
            result = function(*given)
        return nested.apply(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor, result)


def computing(config: DeviceConfig, device: torch.device) -> Compute:
    """Return how a run calls its model and its loss."""
    dtype = AUTOCAST.get(config.precision)
    return call if dtype is None else Autocast(device, dtype)


def scaler(config: DeviceConfig, device: torch.device, optimizer: Any, name: str) -> torch.amp.GradScaler | None:
    """Return a gradient scaler for fp16, whose small gradients would vanish; None for other precisions.

    Raises:
        ConfigError: the optimiser is not a torch optimiser, whose gradients alone it can unscale.
    """
    if config.precision != "fp16":
        return None
    if not isinstance(optimizer, torch.optim.Optimizer):
        problem = f"fp16 scales gradients, which needs a torch optimiser; {name} is not one. bf16 works without"
        raise ConfigError(Fault("device.precision", problem))
    return torch.amp.GradScaler(device.type)
