"""Trained weights: kept beside a run, whole or not at all, and found again by folder, MLflow id or run key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.errors import ConfigError, Fault
from experiments.files import replacing

FILE = "weights.pt"
KEYS = "keys"

State = dict[str, Tensor]


def save(folder: Path, state: Mapping[str, Tensor]) -> Path:
    """Write the weights of a run: tensors by name and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / FILE) as temporary:
        torch.save(dict(state), temporary)
    return folder / FILE


def load(folder: Path, *, key: str = "init_from") -> State:
    """The weights of the run in a folder, on the CPU; `key` is where a fault of them is told.

    Raises:
        ConfigError: there are none, or the file is no such thing.
    """
    path = folder / FILE
    if not path.is_file():
        problem = f"{folder} has no {FILE}: no run has ended there; python -m experiments.resume goes on with one"
        raise ConfigError(Fault(key, problem))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # foreign bytes raise whatever they like
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(Fault(key, f"{path} cannot be read: {told}")) from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise ConfigError(Fault(key, f"{path} holds something else than tensors by name"))
    return state


def digest(state: Mapping[str, Tensor]) -> str:
    """Identifies weights by their names, shapes and bits."""
    content = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        content.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def into(model: Any, state: Mapping[str, Tensor], origin: str, *, key: str = "init_from") -> None:
    """Put weights into a model of the same shape.

    Raises:
        ConfigError: they do not fit.
    """
    try:
        model.load_state_dict(state)
    except (RuntimeError, KeyError) as error:
        problem = f"the weights of {origin} do not fit this model: {' '.join(str(error).split())}"
        raise ConfigError(Fault(key, problem)) from None
