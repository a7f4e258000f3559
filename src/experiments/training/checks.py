"""Checks, before a run starts, that components return what a training needs and fit together.

Each raises a ConfigError that names the component, what it returned or takes, and what was expected.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from experiments.config.registry import Component, register
from experiments.config.root import RootConfig
from experiments.data import nested
from experiments.data.batches import Batches
from experiments.data.nested import Nested
from experiments.data.split import Split
from experiments.data.splits import DataSpec, Splits, is_stream
from experiments.data.tensors import is_arrays, is_image
from experiments.errors import ConfigError, DataError, Fault, first_line, suggestion
from experiments.seeds import noise_kept, noise_state, same_noise
from experiments.tracking.metric_names import RULE, is_valid
from experiments.training import describe
from experiments.training.callback import Callback
from experiments.training.losses import mean, require_mean
from experiments.training.runner import figure_names
from experiments.training.step import Forward, PairTransform


def require_splits(value: Any, name: str) -> None:
    """Check that a dataset factory returned splits, or a mapping of the arguments of `Splits.of`."""
    if isinstance(value, Splits):
        return
    if not isinstance(value, Mapping):
        problem = f"{name} returned {describe.kind(value)}; expected a mapping with train and valid"
        raise ConfigError(Fault("dataset", problem))
    known = inspect.signature(Splits.of).parameters
    problems = [f"{name} returned {key!r}{suggestion(key, known)}" for key in value if key not in known]
    problems += [f"{name} returned no {part!r}" for part in ("train", "valid") if part not in value]
    _raise([Fault("dataset", problem) for problem in problems])


def require_metric_names(names: Iterable[str], key: str) -> None:
    """Check that MLflow takes these names of metrics."""
    _raise([Fault(key, f"{name!r} is not allowed as a metric's name: {RULE}") for name in names if not is_valid(name)])


def require_input(model: Component, spec: DataSpec) -> None:
    """Check that a model that takes images, of one `shape` perhaps, or one input gets such rows."""
    kind, shape = model.metadata.get("input"), model.metadata.get("shape", spec.shape)
    several = not isinstance(spec.dtype, str)
    if kind in ("image", "flat") and several:
        problem = f'takes one input, dataset {spec.name} has several ({spec.shape}); register it with input="any"'
    elif kind == "image" and not is_image(spec.shape):
        problem = f"takes images (channels, height, width), dataset {spec.name} has rows of the shape {spec.shape}; "
        problem += f'models of any: {_models("flat")}; where they are images, its "shape" is (1, height, width)'
    elif kind == "tokens" and spec.dtype in ("float32", "bool"):
        problem = f"takes tokens, whole numbers, and dataset {spec.name} has x as {spec.dtype}"
    elif shape != spec.shape:
        problem = f"takes images of shape {shape}, dataset {spec.name} has {spec.shape}; "
        problem += f"models of any shape: {_models('flat', 'image')}"
    else:
        return
    raise ConfigError(Fault("model", f"{model.name} {problem}"))


def _models(*kinds: str) -> str:
    """Return the models that take these kinds of input in any shape."""
    known = {name: register.model.get(name).metadata for name in register.model.names}
    return ", ".join(name for name, told in known.items() if told.get("input") in kinds and "shape" not in told)


def class_weights(split: Split) -> Tensor:
    """Return how likely each row is drawn so that each class comes as often; for labels, one a row.

    Raises:
        ConfigError: the targets are something else.
    """
    y = split.tensors[1]
    if not isinstance(y, Tensor) or y.is_floating_point() or y.ndim > 1:
        raise ConfigError(Fault("loader.draw", "balanced draws rows by their label; this dataset has other targets"))
    return 1 / torch.bincount(y).double()[y]


def require_fixed_items(split: Split, loader: Component) -> None:
    """Check that items which are others each time, or a stream's, are not read once for all epochs."""
    if is_arrays(split.dataset) or not loader.metadata.get("reads_once"):
        return
    if is_stream(split):
        problem = f"{loader.name} reads rows once, and this dataset is a stream"
        raise ConfigError(Fault("loader", f"{problem}; loader=dataloader reads it in each pass"))
    cpu = torch.device("cpu")
    with noise_kept():
        before = noise_state(cpu)
        one, other = (nested.leaves(split.row(split.dataset[0])) for _ in range(2))
        drawn = not same_noise(before, noise_state(cpu)) or not all(map(torch.equal, one, other))
    if drawn:
        problem = f"{loader.name} reads each item once, and an item of this dataset is another each time it is read"
        raise ConfigError(Fault("loader", f"{problem}; loader=dataloader reads them each epoch"))


def require_targets(root: RootConfig, spec: DataSpec) -> None:
    """Check that the loss, the metrics and the callbacks take the dataset's kind of target."""
    has = "classes" if spec.classes else "reals"
    words = {"classes": "class labels", "reals": "real targets", "input": "the input"}
    losses = [name for name in register.loss.names if register.loss.get(name).metadata.get("targets") == has]
    chosen = [("loss", register.loss.get(root.loss["name"]), f"losses that do: {', '.join(losses)}")]
    for registry, names in ((register.metric, root.metrics), (register.callback, root.callbacks)):
        keys = {name: f"{registry.group}.{name}" for name in names}
        chosen += [(key, registry.get(name), f"remove it with ~{key}") for name, key in keys.items()]
    faults = []
    for key, component, remedy in chosen:
        takes = component.metadata.get("targets", has)
        if takes not in (has, "input"):
            problem = f"{component.name} takes {words[takes]}, dataset {spec.name} has {words[has]}; {remedy}"
            faults.append(Fault(key, problem))
    _raise(faults)


def require_watched(callbacks: Mapping[str, Callback], metrics: Iterable[str]) -> None:
    """Check that each metric that a callback, by its key, watches is one of the run's or an earlier callback's."""
    known = figure_names(metrics)
    faults = []
    for key, callback in callbacks.items():
        for watched in set(callback.watches) - set(known):
            problem = f"watches {watched!r}, which is not a metric of this run{suggestion(watched, known)}"
            faults.append(Fault(key, problem))
        known += callback.adds
    _raise(faults)


def require_whole_steps(loader: Any, steps: int, root: RootConfig) -> None:
    """Check that a loader's batches are a step's, which `accumulate` makes larger than those configured."""
    if root.accumulate > 1 and len(loader) > steps:
        problem = f"{root.loader['name']} yields {len(loader)} batches an epoch where {steps} are expected"
        raise ConfigError(Fault("accumulate", f"{problem}; it needs a loader that follows its batch size"))


def require_last_batch(forward: Forward, train: Batches, valid: Batches, root: RootConfig) -> None:
    """Check that the model trains on one row where the last training batch has one, as batch norm cannot."""
    rows, size, name = len(train.order), root.loader["batch_size"], root.model["name"]
    if len(train) < len(train.loader) or not (size == 1 or rows % size == 1):
        return
    xb = _on_device(_first_rows(next(valid.epoch(0))[0], 1), forward)
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
    xb, yb = _on_device(xb, forward), _on_device(yb, forward)
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
        xb, yb = (_on_device(part, forward) for part in next(valid.epoch(0)))
        problem = f"{name} or the loss cannot take this batch"
        with refused(f"transforms.{name}", problem, (RuntimeError, ValueError, IndexError, TypeError, AttributeError)):
            mixed, target = pair(xb, yb)
            forward.mean_loss(forward.predict(mixed), target)


def _on_device(value: Nested, forward: Forward) -> Nested:
    return nested.apply(lambda tensor: tensor.to(forward.device), value)


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
    if isinstance(pred, Tensor) and pred.shape == (rows, *spec.places, spec.outputs):
        problem += "; return them with .movedim(-1, 1), and take loss=cross_entropy"
    elif isinstance(pred, Tensor) and pred.shape[1:-1] == spec.places and spec.places:
        problem += f"; end the model with {spec.outputs} outputs (data.outputs) and return them with .movedim(-1, 1)"
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
    if spec.dtype in ("int64", "uint8") and xb.is_floating_point() and not is_image(spec.shape):
        return '; x is whole numbers, made float32: register the model with input="tokens" to get them'
    if any(not leaf.is_floating_point() for leaf in nested.leaves(xb)):
        return (
            '; x is whole numbers, as the dataset has it: input="flat" or "image" at its registration makes it float32'
        )
    if any(leaf.ndim == 4 and leaf.shape[1] == 1 for leaf in nested.leaves(xb)):
        return '; if the rows are not images, the dataset gives their "shape", such as (length, features)'
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


def _raise(faults: Sequence[Fault]) -> None:
    if faults:
        raise ConfigError(*faults)
