"""Losses: `(pred, target)` returns a scalar, the mean over the batch; or (sum, weight), for an exact mean of a pass.

A loss declares at its registration which targets it takes, `targets="classes"` or `targets="reals"`; one with
`input="log_probabilities"` needs a model that is registered with `output="log_probabilities"`.
A class is made once with its settings, on the device and in evaluation mode; it may first take `data`, the data spec,
and `counts`, the training rows of each class. Its parameters and buffers are fixed, and not saved.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch import Tensor, nn

from experiments.config.registry import register
from experiments.data.splits import DataSpec
from experiments.errors import ConfigError, Fault


@register.loss("nll_by_hand", targets="classes", input="log_probabilities")
def nll_by_hand(pred: Tensor, target: Tensor) -> Tensor:
    """Stage 1: minus the mean log-probability (batch, classes) of the right class (batch,)."""
    return -pred[range(target.shape[0]), target].mean()


@register.loss("cross_entropy", targets="classes")
def cross_entropy(pred: Tensor, target: Tensor) -> Tensor:
    """Stage 2 and on: log-softmax of logits (batch, classes) and negative log-likelihood in one."""
    return F.cross_entropy(pred, target)


@register.loss("mse", targets="reals")
def mse(pred: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of real targets (batch, columns)."""
    return F.mse_loss(pred, target)


@register.loss("binary_cross_entropy", targets="reals")
def binary_cross_entropy(pred: Tensor, target: Tensor) -> Tensor:
    """The mean over rows and labels, of logits (batch, labels) and targets 0 .. 1 (batch, labels)."""
    return F.binary_cross_entropy_with_logits(pred, target)


@register.loss("reconstruction", targets="input")
def reconstruction(pred: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of what a model makes of its input, from the input itself."""
    return F.mse_loss(pred, target)


@register.loss("weighted_cross_entropy", targets="classes")
class WeightedCrossEntropy(nn.Module):
    """Cross-entropy with a weight for each class: balanced, by one over its training rows, or as listed."""

    def __init__(
        self, data: DataSpec, counts: tuple[int, ...], *, weights: Literal["balanced"] | list[float] = "balanced"
    ) -> None:
        super().__init__()
        chosen = [sum(counts) / (len(counts) * max(n, 1)) for n in counts] if weights == "balanced" else weights
        if len(chosen) != data.outputs:
            unread = "cannot be counted, since items are read one by one" if weights == "balanced" else f"are {weights}"
            raise ConfigError(Fault("loss.weights", f"{data.name} has {data.outputs} classes; their weights {unread}"))
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor(chosen))

    def forward(self, pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum and the weight of a batch's rows; targets are labels or probabilities."""
        each = target.movedim(1, -1) @ self.weights if target.is_floating_point() else self.weights[target]
        return F.cross_entropy(pred, target, self.weights, reduction="sum"), each.sum()
