"""What torch can save and load again with `weights_only=True`."""

from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import torch

# Beside tensors.
PLAIN = (type(None), bool, int, float, complex, str, bytes)


def packed(value: Any) -> bytes:
    """Return what torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def unpacked(content: bytes) -> Any:
    """Return what was packed, on the CPU."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def find_unserializable(state: Any, where: str = "") -> str | None:
    """Describe the first value in a state that torch would write but not load; None where there is none."""
    if isinstance(state, torch.Tensor) or type(state) in PLAIN:
        return None
    if type(state) in (dict, OrderedDict):
        parts = [(part, f"{where}[{key!r}]") for key, value in state.items() for part in (key, value)]
    elif type(state) in (list, tuple):
        parts = [(part, f"{where}[{index}]") for index, part in enumerate(state) if type(part) not in PLAIN]
    else:
        kind = type(state)
        module = kind.__module__.removesuffix("._local")  # where Python 3.13 defines pathlib's classes
        problem = f"a {module}.{kind.__qualname__} at {where}; only tensors and plain values can be loaded"
        return None if _is_loadable(state) else problem
    return next(filter(None, (find_unserializable(*part) for part in parts)), None)


def _is_loadable(value: Any) -> bool:
    try:
        unpacked(packed(value))
    except Exception:  # noqa: BLE001  # of the pickler, of the value's own code
        return False
    return True
