"""Try a training before its script is written: one step and one evaluation, as the run takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from experiments.data.nested import Nested
from experiments.data.splits import Splits
from experiments.export_script.training import Training
from experiments.seeds import noise_kept, noise_state, same_noise
from experiments.training import build, weights
from experiments.training.step import ClosureStep, Forward


@dataclass(frozen=True)
class Trial:
    """What a first step and a first evaluation show.

    Args:
        steps: of an epoch.
        draws_noise: whether a step draws from torch's global generator.
        elsewhere: whether evaluation draws noise, or anything draws from numpy or random.
        nested: whether a batch's x or y is a tuple or mapping of tensors.
        nested_outputs: whether predictions are.
        lazy_input: what a model with lazy layers gets first; None for any other model.
        target_shape: of a row's targets, where it is not the one that they are stored in.
        weighted: whether the loss returns its sum and weight.
        closed: the class of an optimiser whose step() takes a closure; None for any other.
        watched: the metric that the step() of the scheduler takes; None where it takes none.
    """

    steps: int
    draws_noise: bool
    elsewhere: bool
    nested: bool
    nested_outputs: bool
    lazy_input: Nested
    target_shape: tuple[int, ...] | None
    weighted: bool
    closed: type | None
    watched: str | None


def tried(training: Training, splits: Splits) -> Trial:
    """Take a step and evaluate a batch, on the CPU, with a model that is used for nothing else.

    Raises:
        ConfigError: the parts do not fit together.
    """
    cpu, root = torch.device("cpu"), training.root
    plain = root.device.model_copy(update={"name": "cpu", "precision": "fp32", "compile": False, "graph": False})
    bare = {"device": plain, "callbacks": {}}
    with noise_kept():  # a training may be using the generators
        lazy = weights.is_lazy(build.undrawn_model(root, splits.spec, training.seeds))
        model = build.build_model(root, splits.spec, training.seeds)
        runner = build.assemble(
            root.model_copy(update=bare), splits=splits, model=model, device=cpu, seeds=training.seeds, folder=None
        )
        before, returned = noise_state(cpu), _watched(runner.step.forward)
        xb, yb, pred, _ = next(runner.train_steps(0))
        trained = noise_state(cpu)
        runner.evaluate(0, replace(runner.valid, limit=1))
        evaluated = noise_state(cpu)
    others_moved = not same_noise(before | {"torch": trained["torch"]}, trained)
    return Trial(
        steps=len(runner.train),
        draws_noise=not torch.equal(before["torch"], trained["torch"]),
        elsewhere=others_moved or not same_noise(trained, evaluated),
        nested=not (isinstance(xb, Tensor) and isinstance(yb, Tensor)),
        nested_outputs=not isinstance(pred, Tensor),
        lazy_input=build.first_input(root, splits.spec) if lazy else None,
        target_shape=runner.train.target_shape,
        weighted=any(isinstance(loss, tuple) for loss in returned),
        closed=type(runner.optimizer) if isinstance(runner.step, ClosureStep) else None,
        watched=runner.scheduler_watches,
    )


def _watched(forward: Forward) -> list[Any]:
    """Return the list that gets what the loss returns, whoever calls it: an own step may, in training or evaluation."""
    returned, loss = list[Any](), forward.loss

    def watched(*given: Any) -> Any:
        returned.append(loss(*given))
        return returned[-1]

    object.__setattr__(forward, "loss", watched)
    return returned
