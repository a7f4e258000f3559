"""From a checked configuration to a finished runner: the only place that builds."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from experiments import ranks
from experiments.config.registry import Registry, register
from experiments.config.root import LoaderSettings, RootConfig, channels_last
from experiments.data.batches import Batches, Order
from experiments.data.splits import DataSpec, Split, Splits
from experiments.errors import ConfigError, Fault
from experiments.seeds import Seeds, fixed_noise, of_process, seed_noise
from experiments.training import checks, cuda_graph, precision, returned
from experiments.training.callback import Callback
from experiments.training.checkpoint import Checkpoints
from experiments.training.compile import compiled, in_words
from experiments.training.distributed import step as joint
from experiments.training.distributed.group import Group
from experiments.training.distributed.sampler import EveryBatch, ShareOrder
from experiments.training.distributed.sampler import size as share_size
from experiments.training.distributed.step import JointStep, JointUpdate, as_in_first
from experiments.training.runner import Runner
from experiments.training.step import EagerStep, Forward, Step
from experiments.training.update import Update

_loaded: dict[str, Splits] = {}


def load_dataset(settings: Mapping[str, Any]) -> Splits:
    """The configured dataset; the last one is kept, so that a sweep's next job has it at once.

    Raises:
        ConfigError: its factory gives no splits.
        DataError: it cannot be had.
    """
    key = json.dumps(dict(settings), sort_keys=True)
    if key not in _loaded:
        _loaded.clear()
        arguments = dict(settings)
        name = arguments.pop("name")
        with fixed_noise():
            made = register.dataset.bind(name, arguments)()
            returned.require_splits(made, name)
            splits = made if isinstance(made, Splits) else Splits.of(**made)
        if not splits.spec.name:
            splits = dataclasses.replace(splits, spec=dataclasses.replace(splits.spec, name=name))
        _loaded[key] = splits
    return _loaded[key]


def forget_dataset() -> None:
    """Load the dataset anew: its file, its code or the working folder may be another one by now."""
    _loaded.clear()


def build_model(root: RootConfig, spec: DataSpec, seeds: Seeds) -> Any:
    """The model with its initial weights, on the CPU: the same ones for every device."""
    checks.require_shape(register.model.get(root.model["name"]), spec)
    seed_noise(seeds.init)
    model = _bound(register.model, root.model)(spec)
    returned.require_model(model, root.model["name"])
    return model


def input_shape(root: RootConfig, spec: DataSpec) -> tuple[int, ...]:
    """The shape of one input as the configured model takes it."""
    flat = register.model.get(root.model["name"]).metadata.get("input") == "flat"
    return (spec.features,) if flat else spec.shape


def transforms(root: RootConfig, spec: DataSpec) -> list[tuple[Callable[[Tensor], Tensor], bool]]:
    """The configured functions of a batch, in order, each with whether it is for training alone."""
    found: list[tuple[Callable[[Tensor], Tensor], bool]] = []
    for name, given in root.transforms.items():
        function = functools.partial(_call_transform, register.transform.bind(name, given), spec)
        found.append((function, bool(register.transform.get(name).metadata.get("training_only"))))
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
    """A runner of what the configuration names, with the noise stream set.

    Args:
        root: the checked configuration.
        splits: the dataset.
        model: built, on the CPU.
        device: where to compute.
        seeds: the three streams.
        folder: where callbacks may leave files; None for nowhere.
        group: the processes that train it together, each its share of a batch; None for a process of its own.
        checkpoints: where the state is saved, and when; None for nowhere.
        before_step: called right before the optimiser steps; the step is eager then, and no bar is shown.

    Raises:
        ConfigError: the parts do not fit together.
    """
    spec = splits.spec
    checks.require_targets(root, spec)
    model = _placed(model, root, device)
    train, valid = (batches(root, splits, part, device, seeds, group) for part in ("train", "valid"))
    if before_step is None and not ranks.follows():
        train = dataclasses.replace(train, loader=ProgressBar(train.loader, train.order, root.epochs))
    optimizer = _bound(register.optim, root.optim)(model.parameters())
    returned.require_optimizer(optimizer, root.optim["name"])
    scaler = precision.scaler(root.device, device, optimizer, root.optim["name"])
    scheduler, callbacks = _scheduler(root, optimizer, len(train)), _callbacks(root)
    parts = {"model": model, "optim": optimizer, "scheduler": scheduler}
    checks.require_states(parts | {f"callbacks.{name}": part for name, part in callbacks.items()}, root)
    metrics = {name: register.metric.bind(name, given) for name, given in root.metrics.items()}
    for name in metrics:
        returned.require_figures([name], f"metrics.{name}")
    checks.require_watched(callbacks, list(metrics))
    forward = _forward(root, model, device, spec)
    checks.require_one_batch(forward, valid, metrics, root, spec)
    update = _update(root, model, optimizer, len(train), scaler, group, before_step)
    runner = Runner(
        step=_step(root, _compiled(root, forward, valid), update, train, steered=scheduler is not None),
        train=train,
        valid=valid,
        scheduler=scheduler,
        step_scheduler_each=register.scheduler.get(root.scheduler["name"]).metadata.get("per", "epoch"),
        metrics=metrics,
        callbacks=list(callbacks.values()) if group is None else as_in_first(callbacks.values(), group),
        mean_over=root.evaluation.mean,
        all_reduce=list if group is None else group.all_reduce,
        folder=folder,
        checkpoints=checkpoints,
    )
    seed_noise(seeds.noise if group is None else of_process(seeds.noise, group.rank))
    return runner


def _update(
    root: RootConfig,
    model: Any,
    optimizer: Any,
    steps: int,
    scaler: torch.amp.GradScaler | None,
    group: Group | None,
    before_step: Callable[[], None] | None,
) -> Update:
    params = list(model.parameters())
    device: torch.device = params[0].device
    make: Callable[..., Update] = Update if group is None else functools.partial(JointUpdate, model, group)
    return make(
        params,
        optimizer,
        device=device,
        steps=steps,
        waits=device.type != "cpu",
        max_grad_norm=root.max_grad_norm,
        scaler=scaler,
        before_step=before_step,
    )


def _forward(root: RootConfig, model: Any, device: torch.device, spec: DataSpec) -> Forward:
    found = transforms(root, spec)
    return Forward(
        model=model,
        loss=_bound(register.loss, root.loss),
        device=device,
        compute=precision.computing(root.device, device),
        train_transforms=[function for function, _ in found],
        valid_transforms=[function for function, training_only in found if not training_only],
    )


def _compiled(root: RootConfig, forward: Forward, valid: Batches) -> Forward:
    """The same with the model's calls compiled, if `device` says so.

    The first call is compiled now, so that what cannot be compiled is refused before there is a run.
    """
    if not root.device.compile:
        return forward
    forward = dataclasses.replace(forward, compiled=compiled(forward.model, root.model["name"]))
    with torch.inference_mode(), in_words():  # as an evaluation, which then finds it done
        xb, _ = next(valid.epoch(0))
        forward.predict(xb.to(forward.device))
    return forward


def _step(root: RootConfig, forward: Forward, update: Update, train: Batches, *, steered: bool) -> Step:
    """The step that `device` asks for, or a share of it; eager where it is watched."""
    if isinstance(update, JointUpdate):
        joint.warn_of_batch_norm(forward.model, root.model["name"])
        return JointStep(forward, update, train)
    eager = EagerStep(forward, update, pause=root.inspect.breakpoint)
    if not root.device.graph or update.is_watched:
        return eager
    component = register.optim.get(root.optim["name"])
    if refused := cuda_graph.faults(update.optimizer, component, scaled=update.scaler is not None):
        raise ConfigError(*refused)
    capture = cuda_graph.CudaCapture(forward.device)
    return cuda_graph.GraphedStep(eager, capture, batch_size=train.batch_size, steered=steered)


def batches(
    root: RootConfig, splits: Splits, part: str, device: torch.device, seeds: Seeds, group: Group | None = None
) -> Batches:
    """The configured batches of the "train" or the "valid" rows; of a group, this process's share of each batch.

    Raises:
        ConfigError: there are fewer rows than processes.
    """
    given = dict(root.loader)
    settings = LoaderSettings(**{key: given.pop(key) for key in LoaderSettings.model_fields})
    split: Split = getattr(splits, part)
    size, shuffle = settings.batch_size, settings.shuffle
    if part == "valid":
        size, shuffle = settings.valid_batch_size, settings.valid_shuffle
    shape = input_shape(root, splits.spec)
    order, own = Order(len(split), shuffle=shuffle, seed=seeds.data_order), size
    if group is not None:
        if len(split) < group.world:
            problem = f"{splits.spec.name} has {len(split)} {part} rows, too few for {group.world} processes"
            raise ConfigError(Fault("dataset", problem))
        order, own = ShareOrder(order, size, group.rank, group.world), share_size(size, group.rank, group.world)
    loader = _bound(register.loader, given)(split, own, order, shape)
    returned.require_loader(loader, root.loader["name"])
    if register.loader.get(root.loader["name"]).metadata.get("on_device"):
        loader.to(device)
    if group is not None and part == "train":
        loader = EveryBatch(loader, math.ceil(len(split) / size))
    return Batches(loader, order, split, size, shape, root.limit_batches)


class ProgressBar:
    """A loader with a bar, where there is a terminal to show it."""

    def __init__(self, loader: Any, order: Order, epochs: int) -> None:
        self.loader, self.order, self.epochs = loader, order, epochs

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        title = f"epoch {self.order.epoch} of {self.epochs}"
        return iter(tqdm(self.loader, desc=title, unit="batch", leave=False, disable=None))


def _bound(registry: Registry, settings: Mapping[str, Any]) -> Callable[..., Any]:
    arguments = dict(settings)
    return registry.bind(arguments.pop("name"), arguments)


def _placed(model: Any, root: RootConfig, device: torch.device) -> Any:
    """The model on its device, in the configured memory format."""
    model = model.to(device)
    if not channels_last(root):
        return model
    if not isinstance(model, torch.nn.Module):
        raise ConfigError(Fault("device.channels_last", f"{root.model['name']} is no torch.nn.Module"))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub


def _scheduler(root: RootConfig, optimizer: Any, steps: int) -> Any:
    try:
        return _bound(register.scheduler, root.scheduler)(optimizer, root.epochs, steps)
    except TypeError as error:
        if isinstance(optimizer, torch.optim.Optimizer):
            raise
        problem = f"{root.scheduler['name']} cannot steer optim {root.optim['name']}, which is none of torch's: {error}"
        raise ConfigError(Fault("scheduler", problem)) from error


def _callbacks(root: RootConfig) -> dict[str, Callback]:
    made = {name: register.callback.bind(name, given)() for name, given in root.callbacks.items()}
    for name, callback in made.items():
        returned.require_callback(callback, name)
    return made


def _call_transform(transform: Callable[..., Tensor], spec: DataSpec, xb: Tensor) -> Tensor:
    return transform(xb, spec)
