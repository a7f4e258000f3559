"""Losses: `(pred, target)` returns a scalar, the mean over the batch.

A loss declares at its registration which targets it takes, `targets="classes"` or `targets="reals"`; one with
`input="log_probabilities"` needs a model that is registered with `output="log_probabilities"`.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch import Tensor

from experiments.config.registry import register


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
