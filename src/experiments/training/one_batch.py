"""Checks of data, model, loss and transforms by one batch, before a run starts."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from experiments.config.registry import register
from experiments.config.root import RootConfig
from experiments.data import nested
from experiments.data.batches import Batches
from experiments.data.nested import Nested
from experiments.data.splits import DataSpec
from experiments.data.tensors import is_image
from experiments.errors import ConfigError, DataError, Fault, first_line
from experiments.training import describe
from experiments.training.losses import mean, require_mean
from experiments.training.step import Forward, PairTransform


def require_last_batch(forward: Forward, train: Batches, valid: Batches, root: RootConfig) -> None:
    """Check that the model trains on one row where the last training batch has one, as batch norm cannot."""
    rows, size, name = len(train.order), root.loader["batch_size"], root.model["name"]
    if len(train) < len(train.loader) or not (size == 1 or rows % size == 1):
        return
    xb = _first_rows(forward.moved(next(valid.epoch(0))[0]), 1)
    problem = f"{rows:,} training rows in batches of {size} leave one row for the last, which {name} cannot train on"
    other = next((other for other in range(size + 1, size + rows) if rows % other != 1), None)
    remedy = f" (try {other}, or loader.drop_last=true)" if other else ""
    with refused("loader.batch_size", problem + remedy, (ValueError,)):
        forward.compute(copy.deepcopy(forward.model).train(), xb)


def require_sparse(forward: Forward, valid: Batches, optimizer: Any, root: RootConfig) -> None:
    """Check by a step of copies that clipping and the optimiser take the gradients of layers with sparse=True."""
    if not (isinstance(forward.model, nn.Module) and any(vars(m).get("sparse") for m in forward.model.modules())):
        return
    model, optimizer = copy.deepcopy((forward.model, optimizer))
    xb, yb = forward.moved(next(valid.epoch(0)))
    with contextlib.suppress(Exception):  # what else it raises, the training tells
        forward.mean_loss(model.train()(forward.prepared(xb)), yb).backward()  # type: ignore[no-untyped-call]
    told = "the model has a layer with sparse=True"
    with refused("max_grad_norm", f"cannot clip sparse gradients, and {told}", remedy="; max_grad_norm=null"):
        if root.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), root.max_grad_norm)
    with refused("optim", f"{root.optim['name']} cannot take its sparse gradients; {told}"):
        optimizer.step()


def require_one_batch(
    forward: Forward, valid: Batches, root: RootConfig, spec: DataSpec
) -> tuple[tuple[int, ...] | None, Nested, Nested]:
    """Check by one batch, without a backward pass, that data, model and loss fit together.

    Returns:
        the shape of a row's real targets, where the predictions have as many numbers in another shape, else None; the
        predictions; the targets.
    """
    problem = f"{root.loader['name']} cannot read dataset {spec.name}"
    with refused("loader", problem, (TypeError, ValueError, LookupError, DataError)):
        xb, yb = next(valid.epoch(0))
    xb, yb = forward.moved((xb, yb))
    if len(counts := {len(leaf) for leaf in nested.leaves((xb, yb)) if leaf.ndim}) > 1 or not counts:
        problem = f"x {describe.shape(xb)} and y {describe.shape(yb)}; each tensor has a row for each row of the batch"
        raise ConfigError(Fault("dataset", f"{spec.name} gives batches of {problem}"))
    pred = _predictions(forward, root, spec, xb)
    shape = _target_shape(pred, yb)
    yb = yb if shape is None else yb.view(-1, *shape)
    if _evaluates_itself(root):
        return shape, pred, yb
    name, given = root.loss["name"], f"predictions {describe.shape(pred)}, targets {describe.shape(yb)}"
    with refused("loss", f"{name} cannot take {given}", (RuntimeError, ValueError, LookupError, TypeError)):
        returned = forward.loss(pred, yb)
    value = mean(returned)
    if not isinstance(value, Tensor) or value.ndim:
        raise ConfigError(Fault("loss", f"{name} returned {describe.kind(value)}; expected a scalar mean"))
    if isinstance(returned, tuple) and root.accumulate > 1:
        raise ConfigError(Fault("accumulate", f"loss {name} returns its weight, known after all batches of a step; 1"))
    require_mean(forward.loss, pred, yb, name)
    if not _learns(forward, _first_rows(xb, 2), _first_rows(yb, 2)):
        problem = "has an output without a gradient (detached, or of frozen parameters), so there is nothing to train"
        raise ConfigError(Fault("model", f"{root.model['name']} {problem}"))
    return shape, pred, yb


def require_pairs(forward: Forward, valid: Batches, pairs: Mapping[str, PairTransform]) -> None:
    """Check by one batch that each transform of pairs works, and that the loss takes its targets."""
    for name, pair in pairs.items():
        xb, yb = forward.moved(next(valid.epoch(0)))
        problem = f"{name} or the loss cannot take this batch"
        with refused(f"transforms.{name}", problem, (RuntimeError, ValueError, LookupError, TypeError, AttributeError)):
            mixed, target = pair(xb, yb)
            forward.mean_loss(forward.predict(mixed), target)


def _evaluates_itself(root: RootConfig) -> bool:
    """Return whether an own step computes the loss of evaluation too, from outputs of its own."""
    return hasattr(register.step.get(root.step["name"]).factory, "evaluate")


def _first_rows(value: Nested, count: int) -> Nested:
    return nested.apply(lambda tensor: tensor[:count], value)


def _target_shape(pred: Nested, yb: Nested) -> tuple[int, ...] | None:
    """Return the predictions' shape of a row, where real targets have as many numbers; of the first that has."""
    if not isinstance(yb, Tensor) or not yb.is_floating_point():
        return None
    shapes = [tuple(leaf.shape[1:]) for leaf in nested.leaves(pred) if leaf.numel() == yb.numel()]
    return None if not shapes or shapes[0] == tuple(yb.shape[1:]) else shapes[0]


def _learns(forward: Forward, xb: Nested, yb: Nested) -> bool:
    """Return whether the loss has a gradient in evaluation or, on a copy of the model, in training."""
    with torch.enable_grad():
        loss = forward.mean_loss(forward.predict(xb), yb)
        return loss.requires_grad or forward.mean_loss(copy.deepcopy(forward.model).train()(xb), yb).requires_grad


def _predictions(forward: Forward, root: RootConfig, spec: DataSpec, xb: Nested) -> Nested:
    """Return the model's predictions, checked to have the batch's rows.

    A loss or metric that declares its targets takes (rows, outputs, places ...) for labels, and as many numbers as a
    row's real targets have.
    """
    forward.model.eval()
    name, rows = root.model["name"], nested.rows(xb)
    problem = f"{name} cannot take dataset {spec.name}, batches of {describe.shape(xb)}"
    errors, derives = (RuntimeError, ValueError, LookupError, TypeError), f"{name} takes derivatives in evaluation too"
    remedy = functools.partial(_remedy, xb, spec)
    with torch.set_grad_enabled(forward.gradients), refused("model", problem, errors, remedy):
        try:
            pred = forward.predict(xb)
        except RuntimeError as error:
            if "not require grad" not in str(error):
                raise
            raise ConfigError(Fault("model", f"{derives}; register it with gradients=True")) from error
    pred = nested.apply(Tensor.detach, pred) if forward.gradients else pred
    leaves = nested.leaves(pred)
    given = describe.kind(pred) + (
        "" if isinstance(pred, Tensor) or not leaves else f" of the shapes {describe.shape(pred)}"
    )
    if not leaves or any(leaf.shape[:1] != (rows,) for leaf in leaves):
        problem = f"expected a tensor, or a tuple or mapping of tensors, of {rows} rows"
        raise ConfigError(Fault("model", f"{name} returned {given}; {problem}"))
    chosen = [*map(register.metric.get, root.metrics)]
    if not _evaluates_itself(root):
        chosen.insert(0, register.loss.get(root.loss["name"]))
    strict = next((each for each in chosen if each.metadata.get("targets") in ("classes", "reals")), None)
    expected = (rows, spec.outputs, *spec.places)
    if strict is None or _fits(pred, expected, spec):
        return pred
    kind = "classes" if spec.classes else "target columns"
    problem = f"dataset {spec.name} has {spec.outputs} {kind}, so {strict.kind} {strict.name} takes predictions of the "
    problem += f"shape {expected} for {rows} rows"
    if strict.kind == "metric":
        problem += f"; ~metrics.{strict.name} leaves it out"
    if isinstance(pred, Tensor) and pred.shape == (rows, *spec.places, spec.outputs):
        problem += "; return them with .movedim(-1, 1), and take loss=cross_entropy"
    elif isinstance(pred, Tensor) and pred.shape[1:-1] == spec.places and spec.places:
        problem += f"; end the model with {spec.outputs} outputs (data.outputs), return them with .movedim(-1, 1), and "
        problem += "take loss=cross_entropy"
    elif isinstance(pred, Tensor) and pred.shape[2:] == spec.places and pred.ndim > 1:
        problem += f"; end the model with {spec.outputs} outputs (data.outputs)"
    elif isinstance(pred, Tensor) and pred.numel() == rows * spec.outputs:
        problem += "; end the model with nn.Flatten()"
    raise ConfigError(Fault("model", f"{name} returned {given}; {problem}"))


def _fits(pred: Nested, expected: tuple[int, ...], spec: DataSpec) -> bool:
    if not isinstance(pred, Tensor):
        return False
    return pred.shape == expected or (not spec.classes and pred.numel() == math.prod(expected))


def _remedy(xb: Nested, spec: DataSpec, error: Exception) -> str:
    """Return what may help a model that cannot take a batch, as the dataset has it."""
    said = str(error)
    if "positional argument" in said:
        return "; a model is called as model(x)"
    if isinstance(error, LookupError):
        return ""
    if any(leaf.ndim == 4 and leaf.shape[1] == 1 for leaf in nested.leaves(xb)):
        shape = nested.each(lambda _, row: tuple(size for size in row if size > 1), spec.dtype, spec.shape)
        flat = 'input="flat" at its registration gives the model flat rows'
        return f'; {flat}; if they are not images, the dataset gives "shape": {shape}'
    if spec.dtype in ("int64", "uint8") and xb.is_floating_point() and not is_image(spec.shape):
        return '; x is whole numbers, made float32: register the model with input="tokens" to get them'
    if isinstance(xb, Tensor) and not xb.is_floating_point():
        return (
            '; x is whole numbers, as the dataset has it: input="flat" or "image" at its registration makes it float32'
        )
    return ""


@contextlib.contextmanager
def refused(
    key: str,
    problem: str,
    errors: tuple[type[Exception], ...] = (RuntimeError, ValueError, LookupError),
    remedy: str | Callable[[Exception], str] = "",
) -> Iterator[None]:
    """Turn errors of a component into a ConfigError that starts with the problem and ends with the remedy."""
    try:
        yield
    except ConfigError:
        raise
    except errors as error:
        remedy = remedy if isinstance(remedy, str) else remedy(error)
        raise ConfigError(Fault(key, f"{problem}: {first_line(error)}{remedy}")) from error
