"""Three stride-2 convolutions: of stages 10 to 14, fixed to 28x28, then for images of any size; and with batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from annotated_types import Ge
from torch import Tensor, nn

from experiments.config.registry import register
from experiments.data.splits import DataSpec


class Lambda(nn.Module):
    """A layer that calls a function, for a step without a layer in torch.nn."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return the function's result."""
        return self.function(x)


class Cnn(nn.Module):
    """Stage 10: reshapes flat rows itself; 28x28, one channel."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 16, kernel_size=3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(16, outputs, kernel_size=3, stride=2, padding=1)

    def forward(self, xb: Tensor) -> Tensor:
        """Logits (batch, outputs) of flat rows (batch, 784)."""
        xb = xb.view(-1, 1, 28, 28)
        xb = F.relu(self.conv1(xb))
        xb = F.relu(self.conv2(xb))
        xb = F.relu(self.conv3(xb))
        xb = F.avg_pool2d(xb, 4)
        return xb.view(-1, xb.size(1))


@register.model("cnn", input="flat", shape=(1, 28, 28), channels_last=True)
def cnn(data: DataSpec) -> nn.Module:
    """Stage 10, as the tutorial has it."""
    return Cnn(data.outputs)


@register.model("cnn_sequential", input="flat", shape=(1, 28, 28), channels_last=True)
def cnn_sequential(data: DataSpec) -> nn.Module:
    """Stage 11: the same layers in an nn.Sequential."""
    return nn.Sequential(
        Lambda(lambda x: x.view(-1, 1, 28, 28)),
        nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, data.outputs, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(4),
        Lambda(lambda x: x.view(x.size(0), -1)),
    )


@register.model("cnn_adaptive", input="image", channels_last=True)
def cnn_adaptive(data: DataSpec, *, width: Annotated[int, Ge(1)] = 16) -> nn.Module:
    """Stage 12: any height, width and number of channels, by pooling to a fixed size."""
    return nn.Sequential(
        nn.Conv2d(data.shape[0], width, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, data.outputs, kernel_size=3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        Lambda(lambda x: x.view(x.size(0), -1)),
    )


@register.model("cnn_norm", input="image", channels_last=True)
def cnn_norm(data: DataSpec, *, width: Annotated[int, Ge(1)] = 16) -> nn.Module:
    """Beyond the tutorial: each convolution with batch norm and twice as wide as the last, then a linear layer."""
    channels, height, columns = data.shape
    return nn.Sequential(
        *_halved(channels, width, 5),
        *_halved(width, 2 * width, 3),
        *_halved(2 * width, 4 * width, 3),
        nn.Flatten(),
        nn.Linear(4 * width * math.ceil(height / 8) * math.ceil(columns / 8), data.outputs),
    )


def _halved(channels: int, outputs: int, kernel: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels, outputs, kernel, stride=2, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()
