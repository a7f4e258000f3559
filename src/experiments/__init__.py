"""A Hydra-driven PyTorch experiment framework; importing it imports neither torch nor MLflow.

import experiments
result = experiments.run(["model=cnn_adaptive", "optim=sgd_momentum"])
model = experiments.load(result)

@experiments.register.model("my_net")
def my_net(data, *, width: int = 64): ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from experiments.config.registry import register
from experiments.errors import ConfigError, DataError, TrainingError, UserError

if TYPE_CHECKING:
    from experiments.api import run
    from experiments.data.splits import DataSpec, Splits
    from experiments.runs.load import load
    from experiments.training.callback import Callback
    from experiments.training.result import Result

__all__ = [
    "Callback",
    "ConfigError",
    "DataError",
    "DataSpec",
    "Result",
    "Splits",
    "TrainingError",
    "UserError",
    "load",
    "register",
    "run",
]

_HOMES = {
    "Callback": "training.callback",
    "DataSpec": "data.splits",
    "Splits": "data.splits",
    "Result": "training.result",
    "load": "runs.load",
    "run": "api",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'experiments' has no attribute {name!r}")
    return getattr(import_module(f"experiments.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
