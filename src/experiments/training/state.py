"""The state of a training, which a checkpoint holds and from which it resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments.seeds import noise_state
from experiments.training.torch_private import mark_stepped

if TYPE_CHECKING:
    from experiments.training.runner import Runner


def taken(runner: Runner) -> dict[str, Any]:
    """Return the state at the end of a step, as tensors and plain values."""
    scaler = runner.step.update.scaler
    return {
        "model": runner.model.state_dict(),
        "optimizer": runner.optimizer.state_dict(),
        "scaler": None if scaler is None else scaler.state_dict(),
        "scheduler": None if runner.scheduler is None else runner.scheduler.state_dict(),
        "step": getattr(runner.step.component, "state_dict", dict)(),
        "callbacks": [callback.state_dict() for callback in runner.callbacks],
        "noise": runner.progress.noise or noise_state(runner.device),
        "progress": runner.progress.state_dict(),
        "untrained": runner.untrained,
        "history": json.dumps(runner.history),  # a long one as objects would slow torch.save down
        "stopped": runner.stopped,
    }


def restored(runner: Runner, state: Mapping[str, Any]) -> None:
    """Have a training of the same parts continue from a state; its noise stream is the runner's to restore."""
    runner.model.load_state_dict(state["model"])
    runner.optimizer.load_state_dict(state["optimizer"])
    if runner.step.update.scaler is not None:
        runner.step.update.scaler.load_state_dict(state["scaler"])
    if runner.scheduler is not None:
        runner.scheduler.load_state_dict(state["scheduler"])
        mark_stepped(runner.optimizer)
    if state.get("step"):
        runner.step.component.load_state_dict(state["step"])
    for callback, own in zip(runner.callbacks, state["callbacks"], strict=True):
        callback.load_state_dict(own)
    runner.progress.load_state_dict(state["progress"], runner.device)
    history = state["history"]
    runner.history = json.loads(history) if isinstance(history, str) else list(history)  # schema 1
    runner.untrained, runner.stopped = state["untrained"], state["stopped"]
