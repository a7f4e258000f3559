"""Stages 3 and 4, and the multi-layer perceptron: models on flat rows."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn

from experiments.config.registry import register
from experiments.data.splits import DataSpec


@register.model("logistic_parameters", input="flat")
class LogisticParameters(nn.Module):
    """Stage 3: the two tensors as nn.Parameters, which parameters() lists by itself."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(data.features, data.outputs) / math.sqrt(data.features))
        self.bias = nn.Parameter(torch.zeros(data.outputs))

    def forward(self, xb: Tensor) -> Tensor:
        """Logits (batch, outputs) of flat rows (batch, features)."""
        return xb @ self.weights + self.bias


@register.model("logistic", input="flat")
class Logistic(nn.Module):
    """Stage 4: one nn.Linear in place of two hand-made parameters."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.lin = nn.Linear(data.features, data.outputs)

    def forward(self, xb: Tensor) -> Tensor:
        """Logits (batch, outputs) of flat rows (batch, features)."""
        return self.lin(xb)  # type: ignore[no-any-return]  # torch's own call is not annotated


@register.model("mlp", input="flat")
def mlp(
    data: DataSpec,
    *,
    width: Annotated[int, Ge(1)] = 128,
    depth: Annotated[int, Ge(1)] = 1,
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
) -> nn.Module:
    """Return linear layers with ReLU, and dropout if given, between them."""
    layers: list[nn.Module] = []
    features = data.features
    for _ in range(depth):
        layers += [nn.Linear(features, width), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        features = width
    return nn.Sequential(*layers, nn.Linear(features, data.outputs))
