"""Build the training step: the model on its device, the update, and an eager, graphed or shared step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from experiments.config.registry import register
from experiments.config.root import RootConfig, channels_last
from experiments.data.batches import Batches
from experiments.data.splits import Splits
from experiments.errors import ConfigError, Fault
from experiments.training import build_optimizer, cuda_graph, losses, own_step, precision, protocols
from experiments.training.distributed import sampler
from experiments.training.distributed import step as joint
from experiments.training.distributed.group import Group
from experiments.training.step import ClosureStep, EagerStep, Forward
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


def step(
    root: RootConfig,
    forward: Forward,
    optimizer: Any,
    train: Batches,
    splits: Splits,
    group: Group | None,
    before_step: Callable[[], None] | None,
    *,
    seed: int,
    steered: bool,
) -> EagerStep:
    """Return the step: an own one, a process's share, a CUDA graph, or eager.

    `seed` is what an own step may draw from as it is made; `steered` is whether there is a scheduler.
    """
    model, chosen, world = forward.model, root.optim["name"], 1 if group is None else group.world
    scaler = precision.scaler(root.device, forward.device, optimizer, chosen)
    make: Callable[..., Update] = Update if group is None else functools.partial(joint.JointUpdate, model, group)
    update = make(
        list(model.parameters()),
        optimizer,
        steps=len(train),
        max_grad_norm=root.max_grad_norm,
        scaler=scaler,
        before_step=before_step,
    )
    parts = {} if root.accumulate == 1 else {"rows_at_once": sampler.size(root.loader["batch_size"], 0, world)}
    own = root.step["name"] != "supervised"
    if build_optimizer.takes_closure(optimizer, chosen):
        if own or group is not None or root.device.graph or scaler is not None:
            problem = "evaluates a batch several times in a step: without device.graph, fp16, torchrun and an own step"
            raise ConfigError(Fault("optim", f"{chosen} {problem}"))
        return ClosureStep(forward, update, pause=root.inspect.breakpoint, **parts)
    if own:
        component = losses.made(register.step, root.step, splits, forward.device, seed)
        if hasattr(component, "state_dict"):
            protocols.require_states({"step": component})
        return own_step.OwnStep(forward, update, component, splits.spec)
    if isinstance(update, joint.JointUpdate):
        joint.warn_of_batch_norm(model, root.model["name"])
        return joint.JointStep(forward, update, train, **parts)
    if not root.device.graph or before_step is not None:
        return EagerStep(forward, update, pause=root.inspect.breakpoint, **parts)
    if refused := cuda_graph.faults(optimizer, register.optim.get(chosen), scaled=scaler is not None):
        raise ConfigError(*refused)
    capture = cuda_graph.CudaCapture(forward.device)
    return cuda_graph.GraphedStep(forward, update, capture, batch_size=train.batch_size, steered=steered)
