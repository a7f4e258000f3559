"""One training step: called with a batch and its number, it returns the predictions and the loss before its update.

`EagerStep` is the plain one; `cuda_graph.GraphedStep` replays it, `distributed.step.JointStep` takes a process's share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.data import nested
from experiments.data.nested import Nested
from experiments.training.precision import Compute, call
from experiments.training.update import Update

Transform = Callable[[Nested], Nested]


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Computes predictions and losses.

    Args:
        model: a callable with parameters(), train(), eval() and state_dict(), on `device`.
        loss: (pred, target) -> scalar mean.
        device: where the model and batches are.
        compute: calls the model and the loss, in the run's precision.
        train_transforms: of each training batch, in order.
        valid_transforms: of each validation batch, in order.
        compiled: the model's compiled call.
    """

    model: Any
    loss: Callable[[Nested, Nested], Tensor]
    device: torch.device
    compute: Compute = call
    train_transforms: Sequence[Transform] = ()
    valid_transforms: Sequence[Transform] = ()
    compiled: Callable[[Nested], Any] | None = None

    @property
    def called(self) -> Callable[[Nested], Any]:
        """The model, or its compiled call."""
        return self.compiled or self.model

    def predict(self, xb: Nested) -> Nested:
        """Return the model's output for a batch on its device, as in evaluation."""
        for transform in self.valid_transforms:
            xb = transform(xb)
        return self.compute(self.called, xb)


class EagerStep:
    """The step as Python runs it; `pause` stops in the debugger after each backward pass."""

    def __init__(self, forward: Forward, update: Update, *, pause: bool = False) -> None:
        self.forward, self.update, self.pause = forward, update, pause
        # Looked up once: a small model's step takes no longer than a few of these.
        self._transforms, self._compute = forward.train_transforms, forward.compute
        self._called, self._loss_function = forward.called, forward.loss
        self._scaler, self._zero_grad = update.scaler, update.zero_grad

    def __call__(self, xb: Nested, yb: Nested, number: int | Tensor) -> tuple[Nested, Tensor]:
        """Take one step; return the predictions and the loss before its update, without gradients."""
        for transform in self._transforms:
            xb = transform(xb)
        pred = self._compute(self._called, xb)
        loss = self._compute(self._loss_function, pred, yb)
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()
        if self.pause:
            breakpoint()  # noqa: T100  # debug=step: look at xb, yb, pred, loss, p.grad of update.params
        self.update(loss, number)
        self._zero_grad()
        return nested.apply(Tensor.detach, pred), loss.detach()
