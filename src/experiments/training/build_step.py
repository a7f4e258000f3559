"""Build the training step: its update, and the way it is taken, which `device` and the processes decide."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch

from experiments.config.registry import register
from experiments.config.root import RootConfig
from experiments.data.batches import Batches
from experiments.errors import ConfigError
from experiments.training import compile as compiling
from experiments.training import cuda_graph
from experiments.training.distributed import step as joint
from experiments.training.distributed.group import Group
from experiments.training.step import EagerStep, Forward, Step
from experiments.training.update import Update


def update(
    root: RootConfig,
    model: Any,
    optimizer: Any,
    steps: int,
    scaler: torch.amp.GradScaler | None,
    group: Group | None,
    before_step: Callable[[], None] | None,
) -> Update:
    """Return the update of the weights; `steps` are those of one epoch."""
    params = list(model.parameters())
    device: torch.device = params[0].device
    make: Callable[..., Update] = Update if group is None else functools.partial(joint.JointUpdate, model, group)
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


def compiled(root: RootConfig, forward: Forward, valid: Batches) -> Forward:
    """Return the same with the model's calls compiled, if `device` says so.

    The first call compiles here, so that a model that torch cannot compile is refused before the run starts.
    """
    if not root.device.compile:
        return forward
    forward = dataclasses.replace(forward, compiled=compiling.compiled(forward.model, root.model["name"]))
    with torch.inference_mode(), compiling.in_words():  # as in evaluation, which then reuses it
        xb, _ = next(valid.epoch(0))
        forward.predict(xb.to(forward.device))
    return forward


def step(root: RootConfig, forward: Forward, update: Update, train: Batches, *, steered: bool) -> Step:
    """Return the step: a process's share, a CUDA graph, or eager; `steered` is whether there is a scheduler."""
    if isinstance(update, joint.JointUpdate):
        joint.warn_of_batch_norm(forward.model, root.model["name"])
        return joint.JointStep(forward, update, train)
    eager = EagerStep(forward, update, pause=root.inspect.breakpoint)
    if not root.device.graph or update.is_watched:
        return eager
    component = register.optim.get(root.optim["name"])
    if refused := cuda_graph.faults(update.optimizer, component, scaled=update.scaler is not None):
        raise ConfigError(*refused)
    capture = cuda_graph.CudaCapture(forward.device)
    return cuda_graph.GraphedStep(eager, capture, batch_size=train.batch_size, steered=steered)
