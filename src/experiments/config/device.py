"""The device of a run: an explicit one or `auto`, never a silent fallback."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from experiments import ranks
from experiments.config.schema import STRICT
from experiments.errors import Fault

LAYOUT = re.compile(r"[1-9]\d{0,3}(x[1-9]\d{0,3})?")


def _layout(value: Any) -> Any:
    if value is None or (type(value) in (int, str) and LAYOUT.fullmatch(str(value))):
        return value
    raise PydanticCustomError("layout", "it should be a number of models, or orders of rows x models on each: 8x4")


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
    batched: Annotated[int | str | None, BeforeValidator(_layout)] = None


def faults(config: DeviceConfig) -> list[Fault]:
    """Return why this machine does not have the configured device or its features."""
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
            found.append(Fault("device.index", f"{config.index} does not exist; this machine has {cards}, from 0"))
    if not found:
        found += _switch_faults(config, pick(config))
    return found


def pick(config: DeviceConfig) -> torch.device:
    """Return the device of a configuration on this machine."""
    kind = config.name
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda":
        return torch.device("cuda", ranks.local() if config.index is None else config.index)
    return torch.device(kind)


def _switch_faults(config: DeviceConfig, chosen: torch.device) -> list[Fault]:
    """Return which precision or CUDA graph this device does not support."""
    found, precision = [], config.precision
    here = f"{precision} is not supported on {chosen.type}"
    if precision == "tf32" and chosen.type != "cuda":
        found.append(Fault("device.precision", f"{here}, only on NVIDIA's cards; use fp32, or bf16 for speed"))
    elif precision == "tf32" and torch.version.cuda and torch.cuda.get_device_capability(chosen) < (8, 0):
        found.append(Fault("device.precision", f"{_card(chosen)} has no tf32; use fp32 or fp16"))
    elif precision == "bf16" and chosen.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        found.append(Fault("device.precision", f"{_card(chosen)} has no bf16; use fp32 or fp16"))
    elif precision == "bf16" and chosen.type == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        found.append(Fault("device.precision", f"{here} before macOS 14; use fp32"))
    elif precision == "fp16" and chosen.type == "mps":
        found.append(Fault("device.precision", f"{here}, as torch does not scale gradients there; use fp32 or bf16"))
    if config.graph and chosen.type != "cuda":
        problem = f"a CUDA graph needs a CUDA card, but the device is {chosen.type}; set device.graph=false"
        found.append(Fault("device.graph", problem))
    return found


def _card(chosen: torch.device) -> str:
    return f"the card {torch.cuda.get_device_name(chosen)}"


def _missing(name: str, reason: str) -> Fault:
    return Fault(f"device={name}", f"{reason}; use device=cpu, or device=auto for what is available")
