"""Where a run computes: an explicit device or `auto`, never a silent fallback."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from pydantic import BaseModel

from experiments.errors import ConfigError, Fault
from experiments.schema import STRICT


class DeviceConfig(BaseModel):
    """The typed `device` group."""

    model_config = STRICT

    name: Literal["auto", "cpu", "cuda", "mps"]
    index: Annotated[int, Ge(0)] | None = None
    threads: Annotated[int, Ge(1), Le(1024)] | None = None
    channels_last: bool | None = None


def faults(config: DeviceConfig) -> list[Fault]:
    """Why this machine cannot give what is asked for."""
    found = []
    if config.name == "cuda" and not torch.cuda.is_available():
        found.append(_missing("cuda", f"torch {torch.__version__} finds no CUDA card"))
    if config.name == "mps" and not torch.backends.mps.is_available():
        found.append(_missing("mps", f"torch {torch.__version__} finds no Apple GPU"))
    if config.index is not None and not found:
        chosen, cards = pick(config), torch.cuda.device_count()
        if chosen.type != "cuda":
            found.append(Fault("device.index", f"{config.index} names a CUDA card, but the device is {chosen.type}"))
        elif config.index >= cards:
            found.append(Fault("device.index", f"{config.index} is not there; this machine has {cards}, from 0"))
    return found


def pick(config: DeviceConfig) -> torch.device:
    """The device that a configuration means on this machine."""
    kind = config.name
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda":
        return torch.device("cuda", config.index or 0)
    return torch.device(kind)


def prepare(config: DeviceConfig, *, deterministic: bool) -> torch.device:
    """Set torch up for a run, process-wide (threads, determinism; see `settings_kept`), and return its device.

    Raises:
        ConfigError: the device is not there.
    """
    if found := faults(config):
        raise ConfigError(*found)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if deterministic:
        # cuBLAS reads this before the first CUDA call of the process.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    return pick(config)


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    """Put back what `prepare` sets for the whole process, so that one run's settings are not the next one's."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def _missing(name: str, reason: str) -> Fault:
    return Fault(f"device={name}", f"{reason}; device=cpu computes here, device=auto picks what is there")
