"""One training step: called with a batch and its number, it returns the predictions and the loss before its update.

`EagerStep` is the plain one; `ClosureStep` has the optimiser evaluate the loss, `cuda_graph.GraphedStep` replays it,
`distributed.step.JointStep` takes a process's share.
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
    """The step as Python runs it.

    Args:
        pause: stop in the debugger after each backward pass.
        rows_at_once: of one pass, where a batch is taken in parts whose gradients are added; 0 for all.
    """

    def __init__(self, forward: Forward, update: Update, *, pause: bool = False, rows_at_once: int = 0) -> None:
        self.forward, self.update, self.pause, self.rows_at_once = forward, update, pause, rows_at_once
        # Looked up once: a small model's step takes no longer than a few of these.
        self._transforms, self._compute = forward.train_transforms, forward.compute
        self._called, self._loss_function = forward.called, forward.loss
        self._scaler, self._zero_grad = update.scaler, update.zero_grad

    def __call__(self, xb: Nested, yb: Nested, number: int | Tensor) -> tuple[Nested, Tensor]:
        """Take one step; return the predictions and the loss before its update, without gradients."""
        for transform in self._transforms:
            xb = transform(xb)
        pred, loss = self.backward(xb, yb)
        self.update(loss, number)
        self._zero_grad()
        return pred, loss

    def backward(self, xb: Tensor, yb: Tensor) -> tuple[Tensor, Tensor]:
        """Add the gradients of the mean loss; return predictions and loss, without gradients."""
        if not self.rows_at_once:
            return self._backward(xb, yb)
        rows, size = nested.rows(yb), self.rows_at_once
        parts = zip(nested.split(xb, size), nested.split(yb, size), strict=True)
        done = [self._backward(part, target, nested.rows(target) / rows) for part, target in parts]
        preds, losses = zip(*done, strict=True)
        return nested.apply(lambda *each: torch.cat(each), *preds), sum(losses[1:], losses[0])

    def _backward(self, xb: Tensor, yb: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        pred = self._compute(self._called, xb)
        loss = self._compute(self._loss_function, pred, yb)
        loss = loss if share == 1.0 else loss * share
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()
        if self.pause:
            breakpoint()  # noqa: T100  # debug=step: look at xb, yb, pred, loss, p.grad of update.params
        return nested.apply(Tensor.detach, pred), loss.detach()


class ClosureStep(EagerStep):
    """A step whose optimiser evaluates a batch again, as often as it needs, as torch.optim.LBFGS does."""

    def __init__(self, forward: Forward, update: Update, **settings: Any) -> None:
        super().__init__(forward, update, **settings)
        self.update.step = self._step

    def backward(self, xb: Tensor, yb: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the gradients that the optimiser starts from, and keep the batch."""
        pred, loss = super().backward(xb, yb)
        self._batch, self._loss = (xb, yb), [loss]
        return pred, loss

    def _step(self) -> None:
        update = self.update
        if update.before_step is not None:
            update.before_step()
        before = [p.detach().clone() for p in update.params]

        @torch.enable_grad()
        def closure() -> Tensor:
            known, self._loss = self._loss, []
            if known and all(map(torch.equal, before, update.params)):  # nothing to evaluate again
                return known[0]
            self._zero_grad()
            _, loss = super(ClosureStep, self).backward(*self._batch)
            update.clipped()
            return loss

        update.optimizer.step(closure)
