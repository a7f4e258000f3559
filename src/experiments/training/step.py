"""One training step: called with a batch and its number, it returns the predictions and the loss before its update.

`EagerStep` is the plain one; `ClosureStep` has the optimiser evaluate the loss, `cuda_graph.GraphedStep` replays it,
`distributed.step.JointStep` takes a process's share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from experiments.data import nested
from experiments.data.nested import Nested
from experiments.training.losses import mean
from experiments.training.precision import Compute, call
from experiments.training.update import Update

Transform = Callable[[Nested], Nested]
PairTransform = Callable[[Nested, Nested], tuple[Nested, Nested]]
Taken = tuple[Nested, Nested, Any]  # predictions, targets, and what the loss returned


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Computes predictions and losses.

    Args:
        model: a callable with parameters(), train(), eval() and state_dict(), on `device`.
        loss: (pred, target) -> scalar mean, or (sum, weight).
        device: where the model and batches are.
        compute: calls the model and the loss, in the run's precision.
        train_transforms: of each training batch, in order.
        valid_transforms: of each validation batch, in order.
        pair_transforms: of each training batch and its targets, after those.
        compiled: the model's compiled call.
        gradients: whether the model takes derivatives, in evaluation too.
    """

    model: Any
    loss: Callable[[Nested, Nested], Any]
    device: torch.device
    compute: Compute = call
    train_transforms: Sequence[Transform] = ()
    valid_transforms: Sequence[Transform] = ()
    pair_transforms: Sequence[PairTransform] = ()
    compiled: Callable[[Nested], Any] | None = None
    gradients: bool = False

    @property
    def called(self) -> Callable[[Nested], Any]:
        """The model, or its compiled call."""
        return self.compiled or self.model

    def mean_loss(self, pred: Nested, target: Nested) -> Tensor:
        """Return the mean loss of a batch."""
        result: Tensor = mean(self.loss(pred, target))
        return result

    def moved(self, value: Nested) -> Nested:
        """Return a batch, or a part of one, on the device."""
        return nested.apply(lambda tensor: tensor.to(self.device, non_blocking=True), value)

    def prepared(self, xb: Nested) -> Nested:
        """Return a batch after the transforms of evaluation."""
        for transform in self.valid_transforms:
            xb = transform(xb)
        return xb

    def evaluating(self) -> AbstractContextManager[Any]:
        """Return autograd's mode in evaluation."""
        return torch.enable_grad() if self.gradients else torch.inference_mode()

    def predict(self, xb: Nested) -> Nested:
        """Return the model's output for a batch on its device, as in evaluation."""
        return self.compute(self.called, self.prepared(xb))

    def predict_detached(self, xb: Nested) -> Nested:
        """Return it without gradients, also within a caller's inference mode."""
        if not self.gradients:
            return self.predict(xb)
        with torch.inference_mode(mode=False), torch.enable_grad():
            return nested.apply(Tensor.detach, self.predict(nested.apply(Tensor.clone, xb)))


class EagerStep:
    """The step as Python runs it.

    Args:
        pause: stop in the debugger after each backward pass.
        rows_at_once: of one pass, where a batch is taken in parts whose gradients are added; 0 for all.
    """

    def __init__(self, forward: Forward, update: Update, *, pause: bool = False, rows_at_once: int = 0) -> None:
        self.forward, self.update, self.pause, self.rows_at_once = forward, update, pause, rows_at_once
        self.component: Any = None  # of an own step
        # Looked up once: a small model's step takes no longer than a few of these.
        self._changes = bool(forward.train_transforms or forward.pair_transforms)
        self._compute, self._called, self._loss_function = forward.compute, forward.called, forward.loss
        self._scaler, self._zero_grad = update.scaler, update.zero_grad

    def __call__(self, xb: Nested, yb: Nested, number: int | Tensor) -> Taken:
        """Take one step; return predictions, targets and the loss before its update, without gradients."""
        if not self._changes:
            return self.train(xb, yb, number)
        xb, mixed = self.transformed(xb, yb)
        pred, target, loss = self.train(xb, mixed, number)
        if target is mixed and are_shares(mixed, yb):
            target = mixed.argmax(1)  # of mixed labels, metrics take the strongest
        return pred, target, loss

    def train(self, xb: Nested, yb: Nested, number: int | Tensor) -> Taken:
        """Take one step with a batch after the transforms."""
        pred, loss = self._gradients(xb, yb)
        self.update(mean(loss), number)
        self._zero_grad()
        return pred, yb, loss

    def transformed(self, xb: Nested, yb: Nested) -> tuple[Nested, Nested]:
        """Return a training batch and its targets after the transforms."""
        for transform in self.forward.train_transforms:
            xb = transform(xb)
        for pair in self.forward.pair_transforms:
            xb, yb = pair(xb, yb)
        return xb, yb

    def _gradients(self, xb: Nested, yb: Nested) -> tuple[Nested, Any]:
        return self.in_parts(xb, yb) if self.rows_at_once else self.backward(xb, yb)

    def backward(self, xb: Nested, yb: Nested, share: float = 1.0) -> tuple[Nested, Any]:
        """Add the gradients of the mean loss; return predictions and what the loss returned, without gradients.

        `share` is that of these rows in a batch which is taken in parts.
        """
        pred = self._compute(self._called, xb)
        loss = self._compute(self._loss_function, pred, yb)
        loss = loss if share == 1.0 else loss * share
        scaled = mean(loss) if self._scaler is None else self._scaler.scale(mean(loss))
        scaled.backward()
        if self.pause:
            breakpoint()  # noqa: T100  # debug=step: look at xb, yb, pred, loss, p.grad of update.params
        return nested.apply(Tensor.detach, pred), nested.apply(Tensor.detach, loss)

    def in_parts(self, xb: Nested, yb: Nested) -> tuple[Nested, Any]:
        """Go backward from each part of a batch, as from the whole."""
        rows, size = nested.rows(yb), self.rows_at_once
        parts = zip(nested.split(xb, size), nested.split(yb, size), strict=True)
        done = [self.backward(part, target, nested.rows(target) / rows) for part, target in parts]
        preds, losses = zip(*done, strict=True)
        return nested.apply(lambda *each: torch.cat(each), *preds), sum(losses[1:], losses[0])

    def evaluate(self, xb: Nested, yb: Nested) -> Taken:
        """Return predictions, targets and the loss of a batch on its device, as in evaluation, without gradients."""
        pred = self.forward.predict(xb)
        loss = self._compute(self.forward.loss, pred, yb)
        return nested.apply(Tensor.detach, pred), yb, nested.apply(Tensor.detach, loss)


def are_shares(target: Nested, labels: Nested) -> bool:
    """Return whether targets are a mixture of what were labels."""
    both = isinstance(target, Tensor) and isinstance(labels, Tensor)
    return both and target.is_floating_point() and not labels.is_floating_point()


class ClosureStep(EagerStep):
    """A step whose optimiser evaluates a batch again, as often as it needs, as torch.optim.LBFGS does."""

    def __init__(self, forward: Forward, update: Update, **settings: Any) -> None:
        super().__init__(forward, update, **settings)
        self.update.step = self._step

    def train(self, xb: Nested, yb: Nested, number: int | Tensor) -> Taken:
        """Take one step with a batch, which is kept for it, with the loss that the optimiser starts from."""
        pred, loss = self._gradients(xb, yb)
        self._batch, self._loss = (xb, yb), [mean(loss)]
        self.update(mean(loss), number)
        self._zero_grad()
        return pred, yb, loss

    def _step(self) -> None:
        update = self.update
        if update.before_step is not None:
            update.before_step()
        before = [p.detach().clone() for p in update.params]

        @torch.enable_grad()
        def closure() -> Tensor:
            known, self._loss = self._loss, []
            if known and all(map(torch.equal, before, update.params)):  # nothing to evaluate again
                return known[0]  # type: ignore[no-any-return]  # a loss
            self._zero_grad()
            _, loss = self._gradients(*self._batch)
            update.clipped()
            result: Tensor = mean(loss)
            return result

        update.optimizer.step(closure)
