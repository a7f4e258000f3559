"""Build a runner from a checked configuration."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.config.registry import register
from experiments.config.root import RootConfig
from experiments.data.batches import Batches
from experiments.data.nested import Nested
from experiments.data.splits import DataSpec, Splits
from experiments.data.tensors import as_input, ones, viewed
from experiments.errors import ConfigError, Fault
from experiments.seeds import Seeds, fixed_noise, noise_kept, of_process, seed_noise
from experiments.training import (
    build_batches,
    build_optimizer,
    build_step,
    checks,
    losses,
    one_batch,
    own_step,
    precision,
    protocols,
    transfer,
    unsaved,
    weights,
)
from experiments.training import metrics as run_metrics
from experiments.training.callback import Callback
from experiments.training.checkpoint import Checkpoints
from experiments.training.compile import compiled
from experiments.training.distributed.group import Group
from experiments.training.distributed.step import AsInFirst
from experiments.training.runner import Runner
from experiments.training.step import Forward

# The last dataset, by its settings. Of the module: a sweep's jobs share a process and nothing else.
_loaded: dict[str, Splits] = {}


def load_dataset(settings: Mapping[str, Any], loss: str = "") -> Splits:
    """Return the configured dataset, with the targets that a loss takes; the last one is kept for a sweep's next job.

    Raises:
        ConfigError: its factory returned no splits.
        DataError: it is not available.
    """
    own_input = bool(loss) and register.loss.get(loss).metadata.get("targets") == "input"
    key = json.dumps([dict(settings), own_input], sort_keys=True)
    if key not in _loaded:
        _loaded.clear()
        name = settings["name"]
        with fixed_noise(), one_batch.refused("dataset", f"{name} failed", (OSError, LookupError)):
            made = register.dataset.chosen(settings)()
            checks.require_splits(made, name)
            splits = made if isinstance(made, Splits) else Splits.of(**made)
        if not splits.spec.name:
            splits = dataclasses.replace(splits, spec=dataclasses.replace(splits.spec, name=name))
        _loaded[key] = splits.with_input_targets() if own_input else splits
    return _loaded[key]


def forget_dataset() -> None:
    """Have the dataset loaded again: its file, its code or the working folder may have changed."""
    _loaded.clear()


def build_model(root: RootConfig, spec: DataSpec, seeds: Seeds) -> Any:
    """Return the model with its initial weights, on the CPU: the same ones for every device."""
    model = undrawn_model(root, spec, seeds)
    if weights.is_lazy(model):
        problem = f"{root.model['name']} has lazy layers, and cannot take two rows of ones"
        with torch.no_grad(), one_batch.refused("model", problem):
            model.eval()(first_input(root, spec))
    return model


def first_input(root: RootConfig, spec: DataSpec) -> Nested:
    """Return two rows of ones as the model gets them, from which lazy layers know their input."""
    xb = viewed(
        as_input(ones(spec.shape, spec.dtype), spec.shape, build_batches.input_kind(root)),
        build_batches.input_shape(root, spec),
    )
    with noise_kept():
        for transform, training_only in transforms(root, spec):
            xb = xb if training_only else transform(xb)
    return xb


def undrawn_model(root: RootConfig, spec: DataSpec, seeds: Seeds) -> Any:
    """Return what the model's factory returns; lazy layers have no weights yet."""
    name = root.model["name"]
    checks.require_input(register.model.get(name), spec)
    seed_noise(seeds.init)
    with one_batch.refused("model", f"{name} cannot be made", (LookupError,)):
        model = protocols.made(register.model, root.model, spec)
    transfer.freeze(model, root.freeze, name)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        which = "only frozen parameters" if list(model.parameters()) else "no parameters"
        raise ConfigError(Fault("model", f"{name} has {which}, so there is nothing to train"))
    return model


def transforms(root: RootConfig, spec: DataSpec) -> list[tuple[Callable[[Tensor], Tensor], bool]]:
    """Return the configured transforms of a batch, in order, each with whether it is for training only."""
    found: list[tuple[Callable[[Tensor], Tensor], bool]] = []
    for name, given in root.transforms.items():
        if not (metadata := register.transform.get(name).metadata).get("pairs"):
            function = functools.partial(_with_spec, register.transform.bind(name, given), spec)
            found.append((function, bool(metadata.get("training_only"))))
    return found


def assemble(
    root: RootConfig,
    *,
    splits: Splits,
    model: Any,
    device: torch.device,
    seeds: Seeds,
    folder: Path | None,
    group: Group | None = None,
    checkpoints: Checkpoints | None = None,
    before_step: Callable[[], None] | None = None,
) -> Runner:
    """Return a runner of what the configuration names, with a model from the CPU, and seed the noise stream.

    Callbacks may write files into `folder`. The processes of `group` train together, each on its share of a batch.
    `before_step` is called right before the optimiser steps; the step is eager then.

    Raises:
        ConfigError: the parts do not fit together.
    """
    checks.require_targets(root, splits.spec)
    model = build_step.placed(model, root, device)
    train, valid = (build_batches.batches(root, splits, part, device, seeds, group) for part in ("train", "valid"))
    optimizer = build_optimizer.optimizer(root, model, resumable=checkpoints is not None)
    scheduler, watched = build_optimizer.scheduler(root, optimizer, len(train))
    metrics = run_metrics.made(root, splits.spec, device, group)
    callbacks = _callbacks(root, metrics)
    protocols.require_states({"model": model, "optim": optimizer, "scheduler": scheduler} | callbacks)
    loss = losses.made(register.loss, root.loss, splits, device, seeds.init)
    forward, target_shape = _forward(root, model, loss, device, splits, valid, metrics)
    train, valid = (dataclasses.replace(part, target_shape=target_shape) for part in (train, valid))
    if checkpoints is not None and group is None:  # a training, not the evaluation of one
        one_batch.require_last_batch(forward, train, valid, root)
        one_batch.require_sparse(forward, valid, optimizer, root)
        unsaved.require_kept(model, forward.prepared(forward.moved(next(valid.epoch(0))[0])))
    step = build_step.step(
        *(root, forward, optimizer, train, splits, group, before_step),
        seed=seeds.init,
        steered=scheduler is not None,
    )
    if isinstance(step, own_step.OwnStep) and checkpoints is not None:
        own_step.require_trains(step, valid, root.step["name"])
    first = [] if group is None else [AsInFirst(group)]
    runner = Runner(
        step=step,
        train=train,
        valid=valid,
        scheduler=scheduler,
        scheduler_watches=watched,
        step_scheduler_each=register.scheduler.get(root.scheduler["name"]).metadata.get("per", "epoch"),
        metrics=metrics,
        callbacks=[*first, *callbacks.values(), *first],
        mean_over=root.evaluation.mean,
        all_reduce=list if group is None else group.all_reduce,
        folder=folder,
        checkpoints=checkpoints,
    )
    seed_noise(seeds.noise if group is None else of_process(seeds.noise, group.rank))
    return runner


def _callbacks(root: RootConfig, metrics: Mapping[str, Any]) -> dict[str, Callback]:
    """Return the callbacks by their keys; the names of their metrics and the run's are checked."""
    callbacks = {}
    for name in metrics:
        checks.require_metric_names([name], f"metrics.{name}")
    for name, given in root.callbacks.items():
        callback = register.callback.bind(name, given)()
        protocols.require_returned(callback, "callbacks", name)
        checks.require_metric_names(callback.adds, f"callbacks.{name}")
        callbacks[f"callbacks.{name}"] = callback
    checks.require_watched(callbacks, metrics)
    return callbacks


def _forward(
    root: RootConfig,
    model: Any,
    loss: Any,
    device: torch.device,
    splits: Splits,
    valid: Batches,
    metrics: run_metrics.Metrics,
) -> tuple[Forward, tuple[int, ...] | None]:
    """Return how predictions and losses are computed, and the shape of a row's targets if it is the predictions'.

    One batch is tried, unless its targets are made up.
    """
    spec = splits.spec
    found = transforms(root, spec)
    pairs = {
        name: functools.partial(_with_spec, register.transform.bind(name, given), spec)
        for name, given in root.transforms.items()
        if register.transform.get(name).metadata.get("pairs")
    }
    forward = Forward(
        model=model,
        loss=loss,
        device=device,
        compute=precision.computing(root.device, device),
        train_transforms=[function for function, _ in found],
        valid_transforms=[function for function, training_only in found if not training_only],
        pair_transforms=list(pairs.values()),
        gradients=bool(register.model.get(root.model["name"]).metadata.get("gradients")),
    )
    shape = None
    if not splits.unread:
        shape, pred, target = one_batch.require_one_batch(forward, valid, root, spec)
        run_metrics.require(metrics, pred, target, forward, dataclasses.replace(valid, target_shape=shape))
        one_batch.require_pairs(forward, valid, pairs)
    return (compiled(forward, root.model["name"], valid) if root.device.compile else forward), shape


def _with_spec(transform: Callable[..., Any], spec: DataSpec, *given: Nested) -> Any:
    return transform(*given, spec)
