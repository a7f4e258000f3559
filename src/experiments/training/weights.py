"""Trained weights: stored in a run's folder, whole or not at all; and those of other files, tensors by name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import parameter

from experiments.errors import ConfigError, Fault, command, first_line
from experiments.files import expanded, replacing

FILE = "weights.pt"
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
ENTRIES = ("state_dict", "model_state_dict", "model")  # where a checkpoint keeps the weights among other things

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
    state, entry = read(path, key=key)
    if entry:
        raise ConfigError(Fault(key, f"{path} holds something else than tensors by name, a run's weights"))
    return state


def named(name: str) -> Path | None:
    """Return the file of weights that a name means by its ending; None for anything else."""
    path = expanded(name)
    return path if path.suffix in SUFFIXES and not path.is_dir() else None


def read(path: Path, *, key: str = "init_from") -> tuple[State, str]:
    """Return the tensors of a file, on the CPU, and the name of the entry that holds them; empty for the whole file.

    Raises:
        ConfigError: there is no such file, or it holds something else, at `key`.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # an optional package

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # a reader may raise any error on other bytes, or be missing
        raise ConfigError(Fault(key, f"{path} cannot be read: {first_line(error)}")) from None
    inner = {entry: content.get(entry) for entry in ENTRIES} if isinstance(content, dict) else {}
    for entry, state in {"": content, **inner}.items():
        if isinstance(state, dict) and state and _by_name(state):
            return state, entry
    problem = f"{path} holds something else than tensors by name; torch.save(model.state_dict(), FILE) writes them"
    raise ConfigError(Fault(key, problem))


def _by_name(state: Mapping[Any, Any]) -> bool:
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())


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
        problem = f"the weights of {origin} do not fit this model: {' '.join(str(error).split()).rstrip('.')}"
        if key == "init_from":
            problem += "; init_match=shapes takes the tensors that fit, init_only=[PATTERN] those that are named"
        raise ConfigError(Fault(key, problem)) from None
