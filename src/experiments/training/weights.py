"""Trained weights: stored in a run's folder, whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import parameter

from experiments.errors import ConfigError, Fault, command, first_line
from experiments.files import replacing

FILE = "weights.pt"

State = dict[str, Tensor]


def save(folder: Path, state: Mapping[str, Tensor]) -> Path:
    """Write the weights of a run: tensors by name."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / FILE) as temporary:
        torch.save(dict(state), temporary)
    return folder / FILE


def load(folder: Path, *, key: str = "init_from") -> State:
    """Return the weights of the run in a folder, on the CPU.

    Raises:
        ConfigError: there are none or the file is damaged, at `key`.
    """
    path = folder / FILE
    if not path.is_file():
        problem = f"{folder} has no {FILE}, so no run finished there; resume it with {command('resume')}"
        raise ConfigError(Fault(key, problem))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # torch's reader may raise any error on other bytes
        raise ConfigError(Fault(key, f"{path} cannot be read: {first_line(error)}")) from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ConfigError(Fault(key, f"{path} holds something else than tensors by name"))
    return state


def digest(state: Mapping[str, Tensor]) -> str:
    """Return a hash of the weights' names, shapes and bits."""
    content = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def is_lazy(model: Any) -> bool:
    """Whether a model has layers that draw their weights at its first call, when they know their input."""
    return isinstance(model, nn.Module) and any(map(parameter.is_lazy, [*model.parameters(), *model.buffers()]))


def into(model: Any, state: Mapping[str, Tensor], origin: str, *, key: str = "init_from") -> None:
    """Load weights into a model of the same shape.

    Raises:
        ConfigError: they do not fit, at `key`.
    """
    try:
        model.load_state_dict(state)
    except (RuntimeError, KeyError) as error:
        problem = f"the weights of {origin} do not fit this model: {' '.join(str(error).split())}"
        raise ConfigError(Fault(key, problem)) from None
