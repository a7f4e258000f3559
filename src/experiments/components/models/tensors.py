"""Stages 1 and 2: a model of two bare tensors, without torch.nn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from experiments.config.registry import register
from experiments.data.splits import DataSpec


class TensorModel:
    """x @ weights + bias, with the methods that a training needs."""

    def __init__(self, data: DataSpec) -> None:
        # requires_grad after the scaling, so that autograd does not record the scaling
        self.weights = (torch.randn(data.features, data.outputs) / math.sqrt(data.features)).requires_grad_()
        self.bias = torch.zeros(data.outputs, requires_grad=True)

    def __call__(self, xb: Tensor) -> Tensor:
        """Logits (batch, outputs) of flat rows (batch, features)."""
        return xb @ self.weights + self.bias

    def parameters(self) -> list[Tensor]:
        """Return the two tensors."""
        return [self.weights, self.bias]

    def train(self) -> Self:
        """Return the model; training and evaluation do not differ."""
        return self

    eval = train

    def to(self, device: torch.device) -> Self:
        """Move both tensors, as leaves."""
        self.weights = self.weights.detach().to(device).requires_grad_()
        self.bias = self.bias.detach().to(device).requires_grad_()
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return {"weights": self.weights.detach(), "bias": self.bias.detach()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy tensors of the same shapes."""
        own = self.state_dict()
        if state.keys() != own.keys():
            raise RuntimeError(f"expected the tensors weights and bias, got {', '.join(state)}")
        for name, tensor in own.items():
            if state[name].shape != tensor.shape:  # copy_ would broadcast a single column
                raise RuntimeError(f"{name} is {tuple(tensor.shape)} here, {tuple(state[name].shape)} there")
        with torch.no_grad():
            self.weights.copy_(state["weights"])
            self.bias.copy_(state["bias"])


class LogProbabilityModel(TensorModel):
    """The same with a log-softmax written out: x - log(sum(exp(x)))."""

    def __call__(self, xb: Tensor) -> Tensor:
        """Log-probabilities (batch, outputs)."""
        x = super().__call__(xb)
        return x - x.exp().sum(-1).log().unsqueeze(-1)


@register.model("logistic_tensors", input="flat", output="log_probabilities")
def logistic_tensors(data: DataSpec) -> TensorModel:
    """Stage 1: log_softmax(x @ weights + bias)."""
    return LogProbabilityModel(data)


@register.model("logistic_logits", input="flat")
def logistic_logits(data: DataSpec) -> TensorModel:
    """Stage 2: x @ weights + bias, since the loss now has the log-softmax."""
    return TensorModel(data)
