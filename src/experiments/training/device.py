"""Where a run computes: an explicit device or `auto`, never a silent fallback."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from pydantic import BaseModel

from experiments import ranks
from experiments.config.schema import STRICT
from experiments.errors import ConfigError, Fault
from experiments.seeds import noise_kept

LARGEST_KEPT = 32 * 2**20 - 2**16  # bytes


class DeviceConfig(BaseModel):
    """The typed `device` group."""

    model_config = STRICT

    name: Literal["auto", "cpu", "cuda", "mps"]
    index: Annotated[int, Ge(0)] | None = None
    threads: Annotated[int, Ge(1), Le(1024)] | None = None
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    graph: bool = False
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
    if not found:
        found += _switch_faults(config, pick(config))
    return found


def pick(config: DeviceConfig) -> torch.device:
    """The device that a configuration means on this machine."""
    kind = config.name
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda":
        return torch.device("cuda", ranks.local() if config.index is None else config.index)
    return torch.device(kind)


def prepare(config: DeviceConfig, *, deterministic: bool) -> torch.device:
    """Set torch up for a run, and return its device.

    Raises:
        ConfigError: the device is not there.
    """
    if found := faults(config):
        raise ConfigError(*found)
    set_up(config, deterministic=deterministic)
    return pick(config)


def set_up(config: DeviceConfig, *, deterministic: bool) -> None:
    """Set what holds for the whole process (threads, determinism, float32's precision); see `settings_kept`."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if deterministic:
        # cuBLAS reads this before the first CUDA call of the process.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    _set_deterministic(deterministic)
    _keep_freed_memory()
    if pick(config).type == "cuda":  # what autocast leaves in float32 is float32
        _set_fp32(["tf32" if config.precision == "tf32" else "ieee"] * len(_fp32_operations()))


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    """Put back what a run sets for the whole process: what `prepare` does, and where the random streams are."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fp32 = _fp32()
    try:
        with noise_kept():
            yield
    finally:
        torch.set_num_threads(threads)
        _set_deterministic(deterministic)
        if _fp32() != fp32:
            _set_fp32(fp32)


def _keep_freed_memory() -> None:
    """Have the C library keep what a batch frees for the next one.

    glibc gives it back to the system, to be had again page by page, beyond a threshold which grows to the largest block
    freed so far, of 32 MiB at most; so one nearly of that size is freed, its pages never touched. See mallopt(3).
    """
    torch.empty(LARGEST_KEPT, dtype=torch.uint8)


def _set_deterministic(wanted: bool) -> None:
    # Only where it changes something: the call imports torch's compiler, which takes as long as torch itself.
    if torch.are_deterministic_algorithms_enabled() != wanted:
        torch.use_deterministic_algorithms(wanted)


def _fp32_operations() -> list[Any]:
    """What computes float32 on a card, each in IEEE's format or in TF32, torch's own choice for cuDNN's."""
    cudnn: Any = torch.backends.cudnn
    return [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn]


def _fp32() -> list[str]:
    return [operation.fp32_precision for operation in _fp32_operations()]


def _set_fp32(values: Sequence[str]) -> None:
    for operation, value in zip(_fp32_operations(), values, strict=True):
        operation.fp32_precision = value


def _switch_faults(config: DeviceConfig, chosen: torch.device) -> list[Fault]:
    """What this device cannot compute in, or not as a graph."""
    found, precision = [], config.precision
    here = f"{precision} is not for the device {chosen.type}"
    if precision == "tf32" and chosen.type != "cuda":
        found.append(Fault("device.precision", f"{here}, but for NVIDIA's cards; fp32 is exact, bf16 faster"))
    elif precision == "tf32" and torch.version.cuda and torch.cuda.get_device_capability(chosen) < (8, 0):
        found.append(Fault("device.precision", f"{_card(chosen)} has no tf32; fp32 and fp16 work there"))
    elif precision == "bf16" and chosen.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        found.append(Fault("device.precision", f"{_card(chosen)} has no bf16; fp32 and fp16 work there"))
    elif precision == "bf16" and chosen.type == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        found.append(Fault("device.precision", f"{here} before macOS 14; fp32 works there"))
    elif precision == "fp16" and chosen.type == "mps":
        found.append(Fault("device.precision", f"{here}, where torch scales no gradients; fp32 and bf16 work there"))
    if config.graph and chosen.type != "cuda":
        problem = f"a CUDA graph needs a CUDA card, and the device is {chosen.type}; device.graph=false trains there"
        found.append(Fault("device.graph", problem))
    return found


def _card(chosen: torch.device) -> str:
    return f"the card {torch.cuda.get_device_name(chosen)}"


def _missing(name: str, reason: str) -> Fault:
    return Fault(f"device={name}", f"{reason}; device=cpu computes here, device=auto picks what is there")
