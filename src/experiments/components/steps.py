"""Steps: `(training, xb, yb)` trains with a batch, and returns predictions, targets and the loss.

`training` has `model`, `loss`, `device`, `data`, and `update(loss, group=None)`. A class is made once with its settings
(`data` first, if it takes the data spec); it has `train(training, xb, yb)`, perhaps `evaluate(training, xb, yb)`, and
`state_dict` and `load_state_dict` if it has a state.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from experiments.config.registry import register
from experiments.training.own_step import StepTraining


@register.step("supervised")
def supervised(training: StepTraining, xb: Tensor, yb: Tensor) -> tuple[Any, Tensor, Tensor]:
    """One forward pass, one loss, one update; a run takes a shorter way to the same numbers."""
    pred = training.model(xb)
    loss = training.loss(pred, yb)
    training.update(loss)
    return pred, yb, loss
