"""Private names of torch, each with the public way that is taken where a torch release lacks it.

They only save time: torch wraps every optimiser's step() in hooks and a mark for its profiler, and marks zero_grad(),
which takes as long as the update of a small model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.optim.optimizer as optimizers
from torch import Tensor


def stepping(optimizer: Any) -> Callable[[], object]:
    """Return a call that updates the weights as `optimizer.step()` does.

    It calls what torch wraps, unless there are hooks, or another `step` was put in its place.
    """
    plain = _unwrapped_step(optimizer)
    if plain is None:
        return lambda: optimizer.step()  # noqa: PLW0108  # another may be put in its place later
    step, hooks = plain
    return lambda: optimizer.step() if any(hooks) or "step" in vars(optimizer) else step()


def clearing(optimizer: Any) -> Callable[[], None]:
    """Return a call that clears the gradients as `optimizer.zero_grad()` does."""
    if getattr(optimizer.zero_grad, "__func__", None) is not torch.optim.Optimizer.zero_grad:
        return optimizer.zero_grad  # type: ignore[no-any-return]

    def clear() -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = None

    return clear


def is_hooked(optimizer: Any, params: Iterable[Tensor]) -> bool:
    """Return whether hooks are called when an optimiser steps, or when a parameter gets its gradient."""
    own = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    tensors = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return any(getattr(optimizer, name, None) for name in own) or any(
        getattr(p, name) for p in params for name in tensors
    )


def mark_stepped(optimizer: Any) -> None:
    """Keep torch from warning of a scheduler that steps before its optimiser, of a step that was left out."""
    optimizer._opt_called = True


def _unwrapped_step(optimizer: Any) -> tuple[Callable[[], object], list[Any]] | None:
    """Return the step that torch has wrapped and all hooks; None for a custom step, or without torch's names."""
    try:
        wrapper: Any = type(optimizer).step
        marked: Any = torch.optim.Optimizer.profile_hook_step(len)
        hooks = [
            optimizer._optimizer_step_pre_hooks,
            optimizer._optimizer_step_post_hooks,
            optimizers._global_optimizer_pre_hooks,
            optimizers._global_optimizer_post_hooks,
        ]
        return (partial(wrapper.__wrapped__, optimizer), hooks) if wrapper.__code__ is marked.__code__ else None
    except AttributeError:
        return None
