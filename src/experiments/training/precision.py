"""What a training's numbers are computed in: float32 as it is, or autocast around forward and loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.config.device import DeviceConfig
from experiments.errors import ConfigError, Fault

# Calls a model or a loss, (function, *arguments), in the run's precision.
Compute = Callable[..., Any]

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def call(function: Callable[..., Any], *given: Any) -> Any:
    """The function's result, computed in what its arguments are."""
    return function(*given)


class Autocast:
    """The same under autocast; what it gives is float32 again, so that losses and sums lose nothing more."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.context = torch.autocast(device.type, dtype=dtype)

    def __call__(self, function: Callable[..., Any], *given: Any) -> Any:
        """The function's result, in float32."""
        with self.context:
            result = function(*given)
        return result.float() if isinstance(result, Tensor) else result


def computing(config: DeviceConfig, device: torch.device) -> Compute:
    """How a run calls its model and its loss."""
    dtype = AUTOCAST.get(config.precision)
    return call if dtype is None else Autocast(device, dtype)


def scaler(config: DeviceConfig, device: torch.device, optimizer: Any, name: str) -> torch.amp.GradScaler | None:
    """What keeps small gradients from vanishing in fp16, which has few exponents; the others have float32's.

    Raises:
        ConfigError: it cannot unscale the gradients that this optimiser gets.
    """
    if config.precision != "fp16":
        return None
    if not isinstance(optimizer, torch.optim.Optimizer):
        problem = f"fp16 scales gradients, which needs an optimiser of torch, and {name} is none; bf16 does without"
        raise ConfigError(Fault("device.precision", problem))
    return torch.amp.GradScaler(device.type)
