"""Transforms of a batch on its device: `(xb, data)` returns xb in the same shape.

`data` is the data spec: xb is flat rows or images, whichever the model takes. Random numbers come from torch's global
generator, the noise stream. With `training_only=True` at its registration, validation does without the transform.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import pad

from experiments.config.registry import register
from experiments.data.splits import DataSpec


@register.transform("normalize")
def normalize(
    xb: Tensor,
    data: DataSpec,  # noqa: ARG001  # every transform takes it
    *,
    mean: float = 0.1307,
    std: Annotated[float, Gt(0)] = 0.3081,
) -> Tensor:
    """Return (x - mean) / std."""
    return (xb - mean) / std


@register.transform("random_shift", training_only=True)
def random_shift(xb: Tensor, data: DataSpec, *, pixels: Annotated[int, Ge(1)] = 2) -> Tensor:
    """Move each image by -pixels .. pixels down and right; zeros move in."""
    channels, height, width = data.shape
    images = pad(xb.reshape(-1, channels, height, width), [pixels] * 4)
    down, right = torch.randint(0, 2 * pixels + 1, (2, len(xb), 1), device=xb.device)
    rows = (torch.arange(height, device=xb.device) + down)[:, :, None]
    columns = (torch.arange(width, device=xb.device) + right)[:, None, :]
    image = torch.arange(len(xb), device=xb.device)[:, None, None]
    # Indexing around the channels puts them last: (batch, height, width, channels).
    return images[image, :, rows, columns].permute(0, 3, 1, 2).reshape(xb.shape)
