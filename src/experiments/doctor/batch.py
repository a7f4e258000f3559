"""Layer c, what is observed: a few steps of fresh copies of a training, which nobody else has."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from experiments.config.root import RootConfig
from experiments.data import nested
from experiments.data.nested import Nested
from experiments.doctor.finding import MIN_STEPS
from experiments.errors import TrainingError
from experiments.runs.preparation import Preparation
from experiments.training import unsaved
from experiments.training.runner import Runner

STEPS = 5  # where a weight starts at 0, others get their first gradient a step or two later
OVERFIT_ROWS, OVERFIT_STEPS, OVERFIT_RATES = 16, 40, (1e-2, 1e-3, 1e-1)  # Adam's; one of them suits any sane model
FLOORED = ("cross_entropy", "nll_by_hand", "weighted_cross_entropy", "mse", "binary_cross_entropy", "reconstruction")
RELUS = {torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu, F.relu_}

DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}


@dataclass(frozen=True)
class Weight:
    """A parameter in the first steps: whether it had a gradient, and an update's mean size in parts of its norm."""

    name: str
    axes: int
    trained: bool
    graded: bool
    moved: float


@dataclass(frozen=True)
class Batch:
    """A training at its beginning.

    Args:
        pred: the predictions of a batch in evaluation; None if they are not one tensor.
        again: the same a second time; `alone` of its first half by itself; `later` after the steps.
        dead: of each ReLU, the share of its units that are 0 in every row; `dropouts` of each dropout, its rate.
        modes: modules in the wrong mode, in words.
        kept: whether gradients were left after an update.
        unsaved: attributes that the steps changed and no checkpoint has.
        losses: the batch's loss in evaluation before and after the steps; NaN for a step of its own.
        steps: of the whole training, and never less than a rule over the journal waits for.
        rate: the schedule's largest learning rate, in parts of that of the steps.
        overfit: the loss of a few rows before and after training on them; None for a loss without a known floor.
        failed: why a step could not be taken.
    """

    root: RootConfig
    modules: tuple[nn.Module, ...]
    pred: Tensor | None
    again: Tensor | None
    alone: Tensor | None
    later: Tensor | None
    dead: tuple[float, ...]
    dropouts: tuple[float, ...]
    modes: tuple[str, ...]
    weights: tuple[Weight, ...]
    kept: bool
    unsaved: tuple[str, ...]
    losses: tuple[float, float]
    steps: float
    rate: float
    overfit: tuple[float, float] | None
    failed: str


class _Calls(TorchFunctionMode):
    """Records of each call of a ReLU which share of its units is 0 in every row, and of each dropout its rate."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: list[float] = []
        self.dropouts: list[float] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in RELUS and out.ndim > 1:
            units = out.movedim(-1 if out.ndim == 3 else 1, 0).flatten(1)  # channels, or the numbers of a place
            self.dead.append(float((units == 0).all(1).float().mean()))
        if func in DROPOUTS:
            self.dropouts.append(float([*args[1:2], (kwargs or {}).get("p", 0.5)][0]))
        return out


def observe(prepared: Preparation) -> Batch:
    """Evaluate a batch, take a few steps, and try to overfit a few rows, each with a model of its own."""
    runner, graded, failed = prepared.runner(None), set[int](), ""
    xb, yb = runner.step.forward.moved(next(runner.valid.epoch(0)))
    half = nested.apply(lambda part: part[: max(1, len(part) // 2)], xb)
    with _Calls() as calls:
        pred = _predicted(runner, xb)
    loss = _loss(prepared, runner, xb, yb)
    again, alone, modes = _predicted(runner, xb), _predicted(runner, half), tuple(_modes(runner, xb))
    runner = prepared.runner(None, before_step=lambda: graded.update(_graded(runner)))
    outside, moves = _outside(runner.model), list[list[float]]()
    first_rate = _rate(runner)
    try:
        moves = _moves(runner)
    except TrainingError as error:
        failed = str(error)
    named = runner.model.named_parameters() if isinstance(runner.model, nn.Module) else ()
    names = [name for name, _ in named] or [f"parameter {number}" for number in range(len(runner.params))]
    axes, trained = [p.ndim for p in runner.params], [p.requires_grad for p in runner.params]
    has = [number in graded for number in range(len(names))]
    moved = [sum(each) / len(moves) for each in zip(*moves, strict=True)] or [0.0] * len(names)
    return Batch(
        root=prepared.root,
        modules=tuple(runner.model.modules()) if isinstance(runner.model, nn.Module) else (),
        pred=pred,
        again=again,
        alone=alone,
        later=_predicted(runner, xb),
        dead=tuple(calls.dead),
        dropouts=tuple(calls.dropouts),
        modes=modes,
        weights=tuple(Weight(*each) for each in zip(names, axes, trained, has, moved, strict=True)),
        kept=not failed and bool(_graded(runner)),
        unsaved=tuple(n for n, value in _outside(runner.model).items() if n in outside and _differs(outside[n], value)),
        losses=(loss, _loss(prepared, runner, xb, yb)),
        steps=max(MIN_STEPS, prepared.root.epochs * runner.steps / prepared.root.accumulate),
        rate=prepared.root.optim.get("lr", first_rate) / first_rate if first_rate else math.inf,  # a warm-up from 0
        overfit=_overfit(prepared) if not failed and _is_floored(prepared, runner) else None,
        failed=failed,
    )


def _predicted(runner: Runner, xb: Nested) -> Tensor | None:
    runner.model.eval()
    with runner.step.forward.evaluating():
        pred = runner.step.forward.predict(xb)
    return pred.detach().cpu().double() if isinstance(pred, Tensor) and pred.is_floating_point() else None


def _loss(prepared: Preparation, runner: Runner, xb: Nested, yb: Nested) -> float:
    if prepared.root.step["name"] != "supervised":
        return math.nan
    forward = runner.step.forward
    with forward.evaluating():
        return float(forward.mean_loss(forward.predict(xb), yb))


def _rate(runner: Runner) -> float:
    """Return the learning rate of the next step; 1.0 where the optimiser tells none."""
    groups = getattr(runner.optimizer, "param_groups", [])
    return float(groups[0].get("lr", 1.0)) if groups else 1.0


def _graded(runner: Runner) -> list[int]:
    return [number for number, p in enumerate(runner.params) if p.grad is not None and bool(p.grad.abs().sum() > 0)]


def _modes(runner: Runner, xb: Nested) -> Iterator[str]:
    """Yield the modules with dropout or batch norm that are in the wrong mode after a pass, in words."""
    model, forward = runner.model, runner.step.forward
    for training in (False, True) if isinstance(model, nn.Module) and nested.rows(xb) > 1 else ():
        model.train() if training else model.eval()
        with torch.no_grad() if training and not forward.gradients else forward.evaluating():
            forward.compute(model, forward.prepared(xb))
        for name, module in model.named_modules():
            wrong = isinstance(module, _BatchNorm | _DropoutNd) and module.training != training
            if wrong and not (training and any(not p.requires_grad for p in model.parameters())):  # of a frozen module
                yield f"{name or type(model).__name__} is in {'evaluation' if training else 'training'} mode"


def _moves(runner: Runner) -> list[list[float]]:
    """Take the steps; return of each step each parameter's change, in parts of its norm."""
    found, before = [], [p.detach().clone() for p in runner.params]
    for _ in islice(runner.train_steps(0), STEPS):
        now = [p.detach().clone() for p in runner.params]
        pairs = [(float(old.norm()), float((new - old).norm())) for old, new in zip(before, now, strict=True)]
        found.append([change / norm if norm else 0.0 for norm, change in pairs])
        before = now
    return found


def _outside(model: Any) -> dict[str, Any]:
    """Return the tensors and plain numbers that a model holds outside its state."""
    found: dict[str, Any] = dict(unsaved.tensors(model))
    for path, module in model.named_modules() if isinstance(model, nn.Module) else ():
        if type(module).get_extra_state is nn.Module.get_extra_state:
            plain = {name: value for name, value in vars(module).items() if isinstance(value, int | float)}
            found |= {f"{path}.{name}".lstrip("."): value for name, value in plain.items() if name != "training"}
    return found


def _differs(before: Any, now: Any) -> bool:
    return not torch.equal(before, now) if isinstance(before, Tensor) and isinstance(now, Tensor) else before is not now


def _is_floored(prepared: Preparation, runner: Runner) -> bool:
    """Return whether the loss can be 0, and Adam can take the gradients."""
    plain = prepared.root.step["name"] == "supervised" and prepared.root.loss["name"] in FLOORED
    sparse = isinstance(runner.model, nn.Module) and any(vars(m).get("sparse") for m in runner.model.modules())
    return plain and not sparse


def _overfit(prepared: Preparation) -> tuple[float, float] | None:
    """Return the loss of a few rows before and after training on them alone, at the best of the rates."""
    best = (1.0, float("inf"))
    for rate in OVERFIT_RATES:
        runner = prepared.runner(None)
        forward, params = runner.step.forward, [p for p in runner.params if p.requires_grad]
        batch = next(runner.train.epoch(0))
        xb, yb = forward.moved(nested.apply(lambda part: part[:OVERFIT_ROWS], batch))
        optimizer, losses = torch.optim.Adam(params, lr=rate), list[float]()
        runner.model.train()
        for _ in range(OVERFIT_STEPS):
            loss = forward.mean_loss(forward.compute(forward.called, forward.prepared(xb)), yb)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
        best = min(best, (losses[0], sum(losses[-3:]) / 3), key=lambda pair: pair[1] / pair[0])  # dropout is noise
        if best[1] < 0.5 * best[0]:
            break
    return best
