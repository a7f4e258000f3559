"""Beyond the tutorial, for images: a residual network, a U-Net for labels of pixels, an autoencoder."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from experiments.config.registry import register
from experiments.data.splits import DataSpec

Width = Annotated[int, Ge(1)]


class Residual(nn.Module):
    """Two convolutions with batch norm, added to their input (He et al., 2016, https://arxiv.org/abs/1512.03385)."""

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Conv2d(channels, outputs, kernel_size=1, stride=stride, bias=False)

    def forward(self, xb: Tensor) -> Tensor:
        """Images (batch, outputs, height / stride, width / stride) of images (batch, channels, height, width)."""
        return torch.relu(self.body(xb) + self.shortcut(xb))


class UNet(nn.Module):
    """One level down and up, with the fine level beside the coarse one (Ronneberger et al., 2015)."""

    def __init__(self, channels: int, outputs: int, width: int) -> None:
        super().__init__()
        self.fine = self.convolutions(channels, width)
        self.coarse = nn.Sequential(nn.MaxPool2d(2), self.convolutions(width, 2 * width))
        self.joined = self.convolutions(3 * width, width)
        self.last = nn.Conv2d(width, outputs, kernel_size=1)

    @staticmethod
    def convolutions(channels: int, outputs: int) -> nn.Module:
        """Return two convolutions that keep an image's size."""
        return nn.Sequential(
            nn.Conv2d(channels, outputs, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, kernel_size=3, padding=1),
            nn.ReLU(),
        )

    def forward(self, xb: Tensor) -> Tensor:
        """Logits (batch, outputs, height, width) of images (batch, channels, height, width)."""
        fine = self.fine(xb)
        coarse = nn.functional.interpolate(self.coarse(fine), size=fine.shape[2:])
        logits: Tensor = self.last(self.joined(torch.cat([fine, coarse], dim=1)))
        return logits


@register.model("resnet_small", input="image")
def resnet_small(data: DataSpec, *, width: Width = 16) -> nn.Module:
    """Return three residual blocks with batch norm, each of half the size, and the mean over the image."""
    return nn.Sequential(
        Residual(data.shape[0], width, 1),
        Residual(width, 2 * width, 2),
        Residual(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, data.outputs),
    )


@register.model("unet_small", input="image")
def unet_small(data: DataSpec, *, width: Width = 16) -> nn.Module:
    """Return a small U-Net: outputs for each pixel, for labels (batch, height, width)."""
    return UNet(data.shape[0], data.outputs, width)


@register.model("autoencoder", input="flat")
def autoencoder(data: DataSpec, *, width: Width = 128, code: Width = 16) -> nn.Module:
    """Return an encoder to `code` numbers and a decoder back, for loss=reconstruction."""
    return nn.Sequential(
        nn.Linear(data.features, width),
        nn.ReLU(),
        nn.Linear(width, code),
        nn.Linear(code, width),
        nn.ReLU(),
        nn.Linear(width, data.outputs),
    )
