"""Metrics: `(pred, target)` returns a sum over the batch's rows, on the device; the run divides by the rows.

A metric declares at its registration which targets it takes: `targets="classes"` or `targets="reals"`.
"""

from __future__ import annotations

from torch import Tensor

from experiments.config.registry import register


@register.metric("accuracy", targets="classes")
def accuracy(pred: Tensor, target: Tensor) -> Tensor:
    """Return the number of rows whose largest prediction (batch, classes) is at the right class (batch,)."""
    return (pred.argmax(dim=1) == target).sum()
