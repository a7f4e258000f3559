"""The update of the weights: gradients unscaled, clipped and cleared; a step that is not finite is not applied.

On the CPU a bad step raises at once. On an accelerator, where reading would wait, it is masked and reported later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.errors import TrainingError
from experiments.training.torch_private import clearing, mark_stepped, stepping

# From 2**16 some 36 more halvings than doublings: no scale works then.
SMALLEST_SCALE = 2.0**-20


class Update:
    """Steps the optimiser.

    Args:
        steps: of one epoch, to report the batch of a bad step.
        max_grad_norm: limit of the gradients' joint norm.
        scaler: scales the loss, with fp16; a step whose scaled gradients overflow is skipped.
        before_step: called right before the optimiser steps, to read the gradients that it gets.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        optimizer: Any,
        *,
        steps: int,
        max_grad_norm: float | None = None,
        scaler: torch.amp.GradScaler | None = None,
        before_step: Callable[[], None] | None = None,
    ) -> None:
        self.params, self.optimizer, self.steps = params, optimizer, steps
        self.max_grad_norm, self.scaler = max_grad_norm, scaler
        step, self.zero_grad = stepping(optimizer), clearing(optimizer)
        self.step = step if before_step is None else lambda: (before_step(), step())
        self.before_step = before_step
        self.waits = params[0].device.type != "cpu"  # reading a number waits for the device
        self._fused = bool(getattr(optimizer, "defaults", {}).get("fused"))
        self._first_bad_step = torch.full((), -1, device=params[0].device)

    def __call__(self, loss: Tensor, number: int | Tensor) -> None:
        """Update the weights in step `number` (counted through the training), after the backward pass.

        Raises:
            TrainingError: the loss or a gradient is not finite, on the CPU; the weights are unchanged.
        """
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        terms = self.clipped()
        # With fp16, an optimiser that is not fused cannot be masked: fp16 skips steps before good ones.
        masks = self.waits and (self.scaler is None or self._fused)
        (self._masked if masks else self._checked)(loss, terms, number)
        if self.scaler is not None:
            self.scaler.update()

    def clipped(self) -> list[Tensor]:
        """Clip the gradients; return numbers that are all finite if each gradient is, since a sum is only then."""
        norms = []
        if self.max_grad_norm is not None:
            norms = [torch.nn.utils.clip_grad_norm_(self.params, self.max_grad_norm)]
        return norms + [grad.sum() for p in self.params if (grad := p.grad) is not None]

    def note_bad(self, number: int) -> None:
        """Keep the number of the first bad step, for `raise_if_bad`."""
        self._first_bad_step.fill_(number)

    def raise_if_bad(self) -> None:
        """Report the first bad step, which waits for the device.

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

    def _checked(self, loss: Tensor, terms: Sequence[Tensor], number: int | Tensor) -> None:
        finite = math.isfinite(sum([term.item() for term in terms]))
        if not math.isfinite(loss.item()) or not (finite or self.scaler is not None):
            self._first_bad_step.fill_(number)
            self.raise_if_bad()
        if finite:
            self.step()
        else:
            mark_stepped(self.optimizer)

    def _masked(self, loss: Tensor, terms: Sequence[Tensor], number: int | Tensor) -> None:
        """Update without reading from the accelerator.

        The first bad step is remembered; its update and all later ones of the epoch are masked, so the weights stay
        what they were before it, as on the CPU. All of it runs on the device, so that a graph can hold it.
        """
        loss, first, masked = loss.detach(), self._first_bad_step, None
        if self.scaler is None:
            bad = ~torch.stack([loss, *terms]).sum().isfinite()
        else:
            bad, masked = ~loss.isfinite(), ~torch.stack(list(terms)).sum().isfinite()
            _start_momentum(self.optimizer)
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


def _start_momentum(optimizer: Any) -> None:
    """Set missing momentum to zero: where its first step is masked, fused SGD would keep uninitialised memory."""
    if isinstance(optimizer, torch.optim.SGD):
        for group in optimizer.param_groups:
            for p in group["params"] if group["momentum"] else ():
                if "momentum_buffer" not in optimizer.state[p]:
                    optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
