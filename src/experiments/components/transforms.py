"""Transforms of a batch on its device: `(xb, data)` returns xb in the same shape.

`data` is the data spec: xb is flat rows or images, whichever the model takes. Random numbers come from torch's global
generator, the noise stream. With `training_only=True` at its registration, validation does without the transform.
One with `pairs=True` is `(xb, yb, data)` and returns both; it comes after the others, in training only.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.distributions import Beta
from torch.nn.functional import one_hot, pad

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


@register.transform("mixup", pairs=True)
def mixup(xb: Tensor, yb: Tensor, data: DataSpec, *, alpha: Annotated[float, Gt(0)] = 0.2) -> tuple[Tensor, Tensor]:
    """Blend each row and its target with another's, by a share from Beta(alpha, alpha), one for the batch."""
    strength = torch.full((), alpha, device=xb.device)
    share = Beta(strength, strength, validate_args=False).sample()
    order = torch.randperm(len(xb), device=xb.device)
    target = probabilities(yb, data)
    return torch.lerp(xb[order], xb, share), torch.lerp(target[order], target, share)


@register.transform("cutmix", pairs=True)
def cutmix(xb: Tensor, yb: Tensor, data: DataSpec, *, alpha: Annotated[float, Gt(0)] = 1.0) -> tuple[Tensor, Tensor]:
    """Replace a box of each image by another image's, and that share of its target; one box for the batch."""
    channels, height, width = data.shape
    strength = torch.full((), alpha, device=xb.device)
    side = (1 - Beta(strength, strength, validate_args=False).sample()).sqrt()
    down, right = torch.rand((2, 1), device=xb.device)
    rows = ((torch.arange(height, device=xb.device) + 0.5) / height - down).abs() < side / 2
    columns = ((torch.arange(width, device=xb.device) + 0.5) / width - right).abs() < side / 2
    box = rows[:, None] & columns[None, :]
    order = torch.randperm(len(xb), device=xb.device)
    images, target = xb.reshape(-1, channels, height, width), probabilities(yb, data)
    mixed = torch.where(box, images[order], images).reshape(xb.shape)
    return mixed, torch.lerp(target, target[order], box.float().mean())


def probabilities(yb: Tensor, data: DataSpec) -> Tensor:
    """Return labels as probabilities (n, classes, ...); real targets as they are."""
    return yb if yb.is_floating_point() else one_hot(yb, data.outputs).movedim(-1, 1).float()
