"""A step of the user's own: any number of forward passes, losses and updates with one batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from experiments.data import nested
from experiments.data.batches import Batches
from experiments.data.nested import Nested
from experiments.data.splits import DataSpec
from experiments.errors import ConfigError, Fault, TrainingError, first_line, suggestion
from experiments.training import unsaved
from experiments.training.losses import mean
from experiments.training.step import EagerStep, Forward, Taken
from experiments.training.update import Update


class StepTraining:
    """A training as its step sees it: `model`, `loss`, `device`, `data` (the data spec), and `update`."""

    def __init__(self, forward: Forward, update: Update, data: DataSpec) -> None:
        self.model, self.loss, self.device, self.data = forward.model, forward.mean_loss, forward.device, data
        self.number: int | Tensor = 0
        self._update = update

    def update(self, loss: Tensor, group: str | None = None) -> None:
        """Go backward from a scalar loss, clip, step the optimiser and clear the gradients.

        `group` is a named parameter group of the optimiser, or a part of the model; gradients of others are dropped.

        Raises:
            TrainingError: there is no such group, or the loss or a gradient is not finite.
        """
        loss.backward()  # type: ignore[no-untyped-call]
        if group is not None:
            chosen = set(map(id, self._group(group)))
            for p in self._update.params:
                p.grad = p.grad if id(p) in chosen else None
        self._update(loss, self.number)
        self._update.zero_grad()

    def _group(self, name: str) -> Sequence[Tensor]:
        children = self.model.named_children() if isinstance(self.model, nn.Module) else ()
        groups: dict[str, Sequence[Tensor]] = {child: list(module.parameters()) for child, module in children}
        groups |= {group["name"]: group["params"] for group in self._update.optimizer.param_groups if "name" in group}
        if name not in groups:
            raise TrainingError(f"no parameter group or part of the model is called {name!r}{suggestion(name, groups)}")
        return groups[name]


class OwnStep(EagerStep):
    """A step of the user's: a function, or an object with train(), and perhaps evaluate() and a state."""

    def __init__(self, forward: Forward, update: Update, component: Any, data: DataSpec) -> None:
        super().__init__(forward, update)
        self.component, self.training = component, StepTraining(forward, update, data)
        self._train, self._evaluate = getattr(component, "train", component), getattr(component, "evaluate", None)

    def train(self, xb: Nested, yb: Nested, number: int | Tensor) -> Taken:
        """Take one step; return its predictions, targets and loss, without gradients."""
        self.training.number = number
        return self._called_with(self._train, xb, yb)

    def evaluate(self, xb: Nested, yb: Nested) -> Taken:
        """Return predictions, targets and loss of a batch: the step's own, else the model's."""
        if self._evaluate is None:
            return super().evaluate(xb, yb)
        return self._called_with(self._evaluate, self.forward.prepared(xb), yb)

    def _called_with(self, function: Any, xb: Nested, yb: Nested) -> Taken:
        pred, target, loss = self._compute(function, self.training, xb, yb)
        target = yb if target is yb else nested.apply(Tensor.detach, target)
        return nested.apply(Tensor.detach, pred), target, nested.apply(Tensor.detach, loss)


def require_trains(step: OwnStep, valid: Batches, name: str) -> None:
    """Check an own step by one batch, with copies of the model and the optimiser, which does not step.

    Raises:
        ConfigError: it failed, returned something else, or made no update.
    """
    updates: list[None] = []
    try:
        xb, yb = step.forward.moved(next(valid.epoch(0)))
        copied = copy.deepcopy((step.forward.model, step.update.optimizer, step.component))
        model, optimizer, component = copied
        update = Update(list(model.parameters()), optimizer, steps=1, max_grad_norm=step.update.max_grad_norm)
        update.step = lambda: updates.append(None)
        model.train()
        trial = OwnStep(replace(step.forward, model=model), update, component, step.training.data)
        before = [unsaved.tensors(part) for part in (model, component)]
        loss = mean(trial(xb, yb, 0)[2])
    except Exception as error:  # user code may raise anything
        problem = f"{name}, which returns predictions, targets and loss, failed on a batch"
        raise ConfigError(Fault("step", f"{problem}: {type(error).__name__}: {first_line(error)}")) from error
    if not isinstance(loss, Tensor) or loss.ndim or not updates:
        lacks = "does not call training.update(loss)" if not updates else "returned a loss that is not a scalar"
        raise ConfigError(Fault("step", f"{name} {lacks}"))
    for held, part, key in zip(before, (model, component), ("model", "step"), strict=True):
        unsaved.require_unchanged(held, part, key)
