"""Checks of data, model, loss and transforms by one batch, before a run starts."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping
from itertools import count

import torch
from torch import Tensor

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
    other = next(other for other in count(size + 1) if rows % other != 1)
    problem = f"{rows:,} training rows in batches of {size} leave one row for the last, which {name} cannot train on"
    with refused("loader.batch_size", f"{problem} (try {other}, or loader.drop_last=true)", (ValueError,)):
        forward.compute(copy.deepcopy(forward.model).train(), xb)


def require_one_batch(
    forward: Forward, valid: Batches, root: RootConfig, spec: DataSpec
) -> tuple[tuple[int, ...] | None, Nested, Nested]:
    """Check by one batch, without a backward pass, that data, model and loss fit together.

    Returns:
        the shape of a row's real targets, where the predictions have as many numbers in another shape, else None; the
        predictions; the targets.
    """
    problem = f"{root.loader['name']} cannot read dataset {spec.name}"
    with refused("loader", problem, (TypeError, ValueError, DataError)):
        xb, yb = next(valid.epoch(0))
    xb, yb = forward.moved((xb, yb))
    pred = _predictions(forward, root, spec, xb)
    shape = _target_shape(pred, yb)
    yb = yb if shape is None else yb.view(-1, *shape)
    name, given = root.loss["name"], f"predictions {describe.shape(pred)}, targets {describe.shape(yb)}"
    with refused("loss", f"{name} cannot take {given}", (RuntimeError, ValueError, IndexError, TypeError)):
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
        with refused(f"transforms.{name}", problem, (RuntimeError, ValueError, IndexError, TypeError, AttributeError)):
            mixed, target = pair(xb, yb)
            forward.mean_loss(forward.predict(mixed), target)


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
    errors, derives = (RuntimeError, ValueError, IndexError, TypeError), f"{name} takes derivatives in evaluation too"
    with torch.set_grad_enabled(forward.gradients), refused("model", problem, errors, _remedy(xb, spec)):
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
    chosen = [register.loss.get(root.loss["name"]), *map(register.metric.get, root.metrics)]
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


def _remedy(xb: Nested, spec: DataSpec) -> str:
    """Return what may help a model that cannot take a batch, as the dataset has it."""
    if any(leaf.ndim == 4 and leaf.shape[1] == 1 for leaf in nested.leaves(xb)):
        return '; if the rows are not images, the dataset gives no "shape", or theirs, such as (length, features)'
    if spec.dtype in ("int64", "uint8") and xb.is_floating_point() and not is_image(spec.shape):
        return '; x is whole numbers, made float32: register the model with input="tokens" to get them'
    if any(not leaf.is_floating_point() for leaf in nested.leaves(xb)):
        return (
            '; x is whole numbers, as the dataset has it: input="flat" or "image" at its registration makes it float32'
        )
    return ""


@contextlib.contextmanager
def refused(
    key: str,
    problem: str,
    errors: tuple[type[Exception], ...] = (RuntimeError, ValueError, IndexError),
    remedy: str = "",
) -> Iterator[None]:
    """Turn errors of a component into a ConfigError that starts with the problem and ends with the remedy."""
    try:
        yield
    except ConfigError:
        raise
    except errors as error:
        raise ConfigError(Fault(key, f"{problem}: {first_line(error)}{remedy}")) from error
