"""How messages describe values."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def kind(value: Any) -> str:
    """Return a tensor's shape, "None" for None, and the type of anything else."""
    if isinstance(value, Tensor):
        return f"a tensor of the shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"
