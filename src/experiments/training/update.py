"""The update of the weights: gradients clipped, unscaled and cleared, and what is not finite kept away.

On the CPU a bad step is seen at once; where looking would wait for an accelerator, it is masked there and told later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from experiments.errors import TrainingError

# The code of every step() that torch has wrapped.
MARKED = torch.optim.Optimizer.profile_hook_step(lambda _: None).__code__

# From 2**16 some 36 more halvings than doublings: then no scale will do.
SMALLEST_SCALE = 2.0**-20


class Update:
    """Steps the optimiser.

    Args:
        params: the model's.
        optimizer: with step().
        waits: whether reading a number waits for the device.
        device: theirs.
        steps: of one epoch, by which a bad one is told.
        max_grad_norm: the gradients' joint norm is clipped to this.
        scaler: what the loss was scaled by, with fp16; a step whose scaled gradients overflow is left out then.
        before_step: called right before the optimiser steps, to look at the gradients that it gets.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        optimizer: Any,
        *,
        device: torch.device,
        steps: int,
        waits: bool,
        max_grad_norm: float | None = None,
        scaler: torch.amp.GradScaler | None = None,
        before_step: Callable[[], None] | None = None,
    ) -> None:
        self.params, self.optimizer, self.steps, self.waits = params, optimizer, steps, waits
        self.max_grad_norm, self.scaler = max_grad_norm, scaler
        self.step = stepping(optimizer) if before_step is None else _watched(stepping(optimizer), before_step)
        self.zero_grad, self.is_watched = clearing(optimizer), before_step is not None
        self._first_bad_step = torch.full((), -1, device=device)

    def __call__(self, loss: Tensor, number: int | Tensor) -> None:
        """The update of step `number` (counted through the training), after the backward pass.

        Raises:
            TrainingError: the loss or a gradient is not finite, and could be read; the weights are as they were.
        """
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norms = []
        if self.max_grad_norm is not None:
            norms = [torch.nn.utils.clip_grad_norm_(self.params, self.max_grad_norm)]
        # A sum is finite only if each of its terms is.
        terms = norms + [grad.sum() for p in self.params if (grad := p.grad) is not None]
        # Of others than fused ones, only the weights can be masked, and fp16 leaves out steps before good ones.
        masks = self.waits and (self.scaler is None or self._fused)
        (self._masked if masks else self._checked)(loss, terms, number)
        if self.scaler is not None:
            self.scaler.update()

    def raise_if_bad(self) -> None:
        """Tell the first bad step, which waits for the device.

        Raises:
            TrainingError: there was one.
        """
        number = int(self._first_bad_step.item())
        if number >= 0:
            epoch, batch = divmod(number, self.steps)
            raise TrainingError(
                f"the loss or a gradient is not finite at step {number} (epoch {epoch}, batch {batch}); "
                "that update was not applied"
            )
        if self.scaler is not None and self.scaler.get_scale() < SMALLEST_SCALE:
            raise TrainingError(
                f"fp16 cannot hold the gradients: they overflow at every scale, down to {self.scaler.get_scale():g}; "
                "device.precision=bf16 has float32's range"
            )

    @property
    def _fused(self) -> bool:
        return bool(getattr(self.optimizer, "defaults", {}).get("fused"))

    def _checked(self, loss: Tensor, terms: Sequence[Tensor], number: int | Tensor) -> None:
        finite = math.isfinite(sum([term.item() for term in terms]))
        if not math.isfinite(loss.item()) or not (finite or self.scaler is not None):
            self._first_bad_step.fill_(number)
            self.raise_if_bad()
        if finite:
            self.step()
        else:
            self.optimizer._opt_called = True  # else torch warns of a scheduler that steps before its optimiser

    def _masked(self, loss: Tensor, terms: Sequence[Tensor], number: int | Tensor) -> None:
        """The update where looking would wait for an accelerator.

        The first bad step is remembered, and its update and all later ones of the epoch are masked: the weights stay
        what they were before it, as on the CPU. All of it is work of the device, so that a graph can hold it.
        """
        loss, first, masked = loss.detach(), self._first_bad_step, None
        if self.scaler is None:
            bad = ~torch.stack([loss, *terms]).sum().isfinite()
        else:
            bad, masked = ~loss.isfinite(), ~torch.stack(list(terms)).sum().isfinite()
            _begin_momentum(self.optimizer)
        first.copy_(torch.where(bad & (first < 0), number, first))
        masked = first >= 0 if masked is None else masked | (first >= 0)
        if self._fused:
            self.optimizer.grad_scale, self.optimizer.found_inf = None, masked.float()
            self.step()
            return
        # Zeroed gradients would not do: momentum and weight decay move the weights without them.
        before = [p.detach().clone() for p in self.params]
        self.step()
        with torch.no_grad():
            for p, old in zip(self.params, before, strict=True):
                p.copy_(torch.where(masked, old, p))


def _watched(step: Callable[[], object], before: Callable[[], None]) -> Callable[[], object]:
    def watched() -> object:
        before()
        return step()

    return watched


def stepping(optimizer: Any) -> Callable[[], object]:
    """What updates the weights as `optimizer.step()` does.

    Torch wraps that of every optimiser in hooks and a mark for its profiler, and the mark takes as long as the update
    of a small model; so what it wraps is called, unless there are hooks, or a `step` put in its place.
    """
    wrapper: Any = getattr(type(optimizer), "step", None)
    if getattr(wrapper, "__code__", None) is not MARKED:
        return lambda: optimizer.step()  # noqa: PLW0108  # another may be put in its place later
    hooks = [
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_step_post_hooks,
        _global_optimizer_pre_hooks,
        _global_optimizer_post_hooks,
    ]
    plain = partial(wrapper.__wrapped__, optimizer)
    return lambda: optimizer.step() if any(hooks) or "step" in vars(optimizer) else plain()


def clearing(optimizer: Any) -> Callable[[], None]:
    """What forgets the gradients as `optimizer.zero_grad()` does.

    Torch's own tells its profiler of it, which takes as long as the update of a small model; so its work is done here.
    """
    if getattr(optimizer.zero_grad, "__func__", None) is not torch.optim.Optimizer.zero_grad:
        return optimizer.zero_grad  # type: ignore[no-any-return]

    def clear() -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = None

    return clear


def _begin_momentum(optimizer: Any) -> None:
    """Let momentum begin at zero: where its first step is masked, fused SGD leaves unset memory there, and goes on."""
    if isinstance(optimizer, torch.optim.SGD):
        for group in optimizer.param_groups:
            for p in group["params"] if group["momentum"] else ():
                if "momentum_buffer" not in optimizer.state[p]:
                    optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
