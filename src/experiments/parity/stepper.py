"""Run a training step by step, beside another in the same process."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from experiments.data import nested
from experiments.parity.differences import Step
from experiments.parity.matching import Matching
from experiments.runs.preparation import Preparation
from experiments.seeds import noise_state, restore_noise
from experiments.training import device as devices
from experiments.training import hooks
from experiments.training.checkpoint import State
from experiments.training.losses import mean
from experiments.training.runner import weights_of

Noise = dict[str, Any]


class Trainee:
    """A runner that takes one step at a time, with its own noise stream, threads and determinism.

    Args:
        prepared: its configuration.
        folder: of its checkpoints; None for no checkpoints.
    """

    def __init__(self, prepared: Preparation, folder: Path | None = None) -> None:
        self.prepared = prepared
        self.runner = prepared.runner(folder, before_step=self._at_update)
        self.params = self.runner.step.update.params
        self.noise: Noise = noise_state(self.runner.device)  # as just seeded
        self.names = _names_of(self.runner.model, self.params)
        self.given: Mapping[str, Tensor] = {}  # replace its own gradients
        self.has_others_memory = True  # False once an optimiser's state did not fit
        self._gradients: dict[str, Tensor] = {}
        self._steps = self._all_steps(0)

    @property
    def total(self) -> int:
        """The number of steps of the whole training."""
        return self.prepared.root.epochs * self.runner.steps

    def advance(self) -> Step | None:
        """Take the next step; return None where the training has no more.

        Raises:
            TrainingError: a loss or gradient is not finite.
        """
        with self._in_its_place():
            return next(self._steps, None)

    def means(self) -> dict[str, float]:
        """Return the means of the epoch so far, and those over the validation rows."""
        with self._in_its_place():
            train = {f"train/{name}": value for name, value in self.runner.progress.sums.means().items()}
            return train | {f"valid/{name}": value for name, value in self.runner.evaluate(0).items()}

    def take(self, other: Trainee, matching: Matching) -> None:
        """Copy the weights of another, and its optimiser's state where that fits."""
        self.runner.model.load_state_dict(matching.to_b(other.runner.model.state_dict()))
        theirs, own = _memory(other), _memory(self)
        if theirs is None or own is None:
            self.has_others_memory = False
            return
        for pair in matching.pairs:
            there, here = theirs.get(pair.a, {}), own.get(pair.b, {})
            if there.keys() != here.keys():
                self.has_others_memory = False
                return
            for key, value in there.items():
                if isinstance(value, Tensor):
                    value = _laid_out_as(here[key], pair.turned(value))
                here[key] = copy.deepcopy(value)  # L-BFGS appends to lists

    def take_noise(self, noise: Noise) -> None:
        """Copy the noise stream of another; an accelerator's only where both have one."""
        same = noise.get("device") is not None and "device" in self.noise
        self.noise = {**self.noise, **{key: value for key, value in noise.items() if key != "device" or same}}

    def resume(self, state: State, done: int) -> None:
        """Continue from a checkpoint saved after `done` steps."""
        self.runner.load_state_dict(state)
        self._steps = self._all_steps(done)

    def save(self, done: int) -> None:
        """Write a checkpoint, as a run does after `done` steps."""
        assert self.runner.checkpoints is not None
        with self._in_its_place():
            epoch, step = divmod(done, self.runner.steps)
            self.runner.checkpoints.save(self.runner.state_dict(), epoch=epoch, step=step)

    def _all_steps(self, done: int) -> Generator[Step]:
        runner, first = self.runner, max(0, done - 1) // self.runner.steps
        hooks.call("on_begin", runner)
        for epoch in range(first, self.prepared.root.epochs):
            if epoch > first:
                runner.step_scheduler("epoch", self.means() if runner.scheduler_watches else None)
                runner.start_epoch()
            for xb, yb, pred, loss in runner.train_steps(epoch):
                runner.progress.sums.add(pred, yb, loss)
                yield Step(
                    _flat(xb),
                    _flat(yb) if not isinstance(yb, Tensor) else yb.detach().cpu(),
                    mean(loss).detach().cpu(),
                    self._gradients,
                    weights_of(runner.model),
                )
                self._gradients = {}  # fp16 may skip the next update

    def _at_update(self) -> None:
        """Keep the gradients that the optimiser gets; replace those that are given."""
        self._gradients = {}
        for p, name in zip(self.params, self.names, strict=True):
            if p.grad is not None:
                gradient = p.grad.detach()
                self._gradients[name] = (gradient.to_dense() if gradient.is_sparse else gradient).cpu().clone()
            if name in self.given:
                sparse = p.grad is not None and p.grad.is_sparse
                p.grad = _laid_out_as(p, self.given[name])
                p.grad = p.grad.to_sparse(1) if sparse else p.grad

    @contextlib.contextmanager
    def _in_its_place(self) -> Iterator[None]:
        """Set up torch for this training alone; restore what is global afterwards."""
        root = self.prepared.root
        with devices.settings_kept():
            devices.set_up(root.device, deterministic=root.deterministic)
            restore_noise(self.noise, self.runner.device)
            yield
            self.noise = noise_state(self.runner.device)


def _laid_out_as(own: Tensor, value: Tensor) -> Tensor:
    """Return a copy with the strides of a training's own tensor, which a fused optimiser relies on."""
    return torch.empty_like(own).copy_(value)


def _names_of(model: Any, params: Sequence[Tensor]) -> list[str]:
    """Return the name of each parameter in the model's state: at the same address, or in the same order."""
    state = list(model.state_dict().items())
    places = {(tensor.data_ptr(), tensor.shape): name for name, tensor in reversed(state)}
    in_order = [name for name, _ in state] if len(state) == len(params) else []
    in_order += [f"parameter {number}" for number in range(len(in_order), len(params))]
    return [places.get((p.data_ptr(), p.shape), name) for p, name in zip(params, in_order, strict=True)]


def _memory(trainee: Trainee) -> dict[str, dict[str, Any]] | None:
    """Return an optimiser's state of each parameter, by name; None where another kind of optimiser has state."""
    optimizer = trainee.runner.optimizer
    if isinstance(optimizer, Optimizer):
        named = zip(trainee.params, trainee.names, strict=True)
        return {name: optimizer.state[p] for p, name in named if p in optimizer.state}
    remembers = any(isinstance(value, Tensor | list | dict) for value in optimizer.state_dict().values())
    return None if remembers else {}


def _flat(value: nested.Nested) -> Tensor:
    """Return a batch's x (rows, numbers) on the CPU; of several inputs side by side, as float64."""
    leaves = [leaf.detach().cpu().reshape(len(leaf), -1) for leaf in nested.leaves(value)]
    return leaves[0] if len(leaves) == 1 else torch.cat([leaf.double() for leaf in leaves], dim=1)
