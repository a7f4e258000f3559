"""Build the training step: where its model is, its update, and how it is taken, as `device` and the processes need."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from experiments.config.registry import register
from experiments.config.root import RootConfig, channels_last
from experiments.data.batches import Batches
from experiments.errors import ConfigError, Fault
from experiments.training import cuda_graph
from experiments.training.distributed import step as joint
from experiments.training.distributed.group import Group
from experiments.training.step import EagerStep, Forward
from experiments.training.update import Update


def placed(model: Any, root: RootConfig, device: torch.device) -> Any:
    """Return the model on its device, in the configured memory format."""
    model = model.to(device)
    if not channels_last(root):
        return model
    if not isinstance(model, torch.nn.Module):
        problem = f"needs an nn.Module; model {root.model['name']} is not one. Set device.channels_last=false"
        raise ConfigError(Fault("device.channels_last", problem))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub


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
    make: Callable[..., Update] = Update if group is None else functools.partial(joint.JointUpdate, model, group)
    limit = root.max_grad_norm
    return make(
        list(model.parameters()), optimizer, steps=steps, max_grad_norm=limit, scaler=scaler, before_step=before_step
    )


def step(root: RootConfig, forward: Forward, update: Update, train: Batches, *, steered: bool) -> EagerStep:
    """Return the step: a process's share, a CUDA graph, or eager; `steered` is whether there is a scheduler."""
    if isinstance(update, joint.JointUpdate):
        joint.warn_of_batch_norm(forward.model, root.model["name"])
        return joint.JointStep(forward, update, train)
    if not root.device.graph or update.is_watched:
        return EagerStep(forward, update, pause=root.inspect.breakpoint)
    component = register.optim.get(root.optim["name"])
    if refused := cuda_graph.faults(update.optimizer, component, scaled=update.scaler is not None):
        raise ConfigError(*refused)
    capture = cuda_graph.CudaCapture(forward.device)
    return cuda_graph.GraphedStep(forward, update, capture, batch_size=train.batch_size, steered=steered)
