"""A step and an update that are taken together with those of other processes, for the one loop.

Each process takes its share of each batch, and every weight stays the same bits in all of them: gradients are summed,
weighted by rows, before the update, so that they are those of the whole batch's mean; what is not finite anywhere is so
everywhere; one process's wish to leave is every one's. Sums of a pass are added once, at its end, in float64.

Torch's DistributedDataParallel divides by the number of processes, which is the mean only where shares are equal, takes
nn.Modules alone, and wraps the model. What it is for, to exchange gradients while others are computed, is given up.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.data.batches import Batches
from experiments.errors import TrainingError
from experiments.training.callback import Callback, Training
from experiments.training.checkpoint import Checkpoints, State
from experiments.training.distributed import sampler
from experiments.training.distributed.group import Group
from experiments.training.result import Metrics
from experiments.training.step import EagerStep, Forward
from experiments.training.update import Update

log = logging.getLogger(__name__)

# What of a training's state each process has of its own.
OWN = ("noise", "progress")


class JointUpdate(Update):
    """The update by what the shares of all processes come to.

    Args:
        model: whose buffers (a BatchNorm's statistics, say) become the first process's.
        group: the processes.
        arguments: as of an update of its own.
    """

    def __init__(self, model: Any, group: Group, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.model, self.group = model, group
        self.weight = 1.0  # of this process's share in the batch

    def __call__(self, loss: Tensor, number: int | Tensor) -> None:
        """The update with the loss of this process's share, after the backward pass.

        Raises:
            TrainingError: as of an update of its own; in all processes then.
        """
        bad = loss.detach() * 0  # NaN for what is not finite
        params = self._with_gradients()
        for dtype, of_one in groupby(sorted(params, key=lambda p: str(p.dtype)), key=lambda p: p.dtype):
            grads = [p.grad for p in of_one]
            flat = torch.cat([bad.to(dtype).view(1), *(grad.reshape(-1) for grad in grads)]) * self.weight
            self.group.add(flat)
            bad = bad + flat[0]
            for grad, part in zip(grads, torch.split(flat[1:], [grad.numel() for grad in grads]), strict=True):
                grad.copy_(part.view_as(grad))
        super().__call__(loss + bad, number)
        for buffers in _by_dtype(self.model):
            flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
            self.group.copy_first(flat)
            for buffer, part in zip(buffers, torch.split(flat, [buffer.numel() for buffer in buffers]), strict=True):
                buffer.copy_(part.view_as(buffer))

    def _with_gradients(self) -> list[Any]:
        """The parameters that have a gradient in any process, zero where this one has none; and whether to stop.

        Said between CPUs, so that nothing waits for an accelerator.
        """
        said = torch.tensor([self.group.wish, *(p.grad is not None for p in self.params)], dtype=torch.int32)
        self.group.largest(said)
        wish, *has = said.tolist()
        self.group.agree(wish)
        found: list[Any] = [p for p, some in zip(self.params, has, strict=True) if some]
        for p in found:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        return found


class JointStep(EagerStep):
    """A step on a process's share of a batch.

    Args:
        forward: predictions and losses.
        update: by what all shares come to.
        train: the training rows, as the batches of all processes together.
    """

    update: JointUpdate

    def __init__(self, forward: Forward, update: JointUpdate, train: Batches) -> None:
        super().__init__(forward, update)
        self.rows, self.batch_size, self.steps = len(train.split), train.batch_size, len(train)

    def __call__(self, xb: Tensor, yb: Tensor, number: int | Tensor) -> tuple[Tensor, Tensor]:
        """Forward, backward, joint update; the predictions and the loss of the share before it."""
        group, update = self.update.group, self.update
        whole = min(self.batch_size, self.rows - int(number) % self.steps * self.batch_size)
        expected = sampler.size(whole, group.rank, group.world)
        if len(xb) != expected:
            problem = f"the loader gives process {group.rank} {len(xb)} rows where its share are {expected}"
            raise TrainingError(f"{problem}; only a loader that follows its order and batch size can be shared")
        update.weight = expected / whole
        if expected:
            return super().__call__(xb, yb, number)
        loss = torch.zeros((), device=self.forward.device)
        if update.scaler is not None:
            update.scaler.scale(loss)  # which sets it up
        update(loss, number)
        update.zero_grad()
        return xb, loss


class JointCheckpoints(Checkpoints):
    """The checkpoints of a run that several processes train: written by the first, with what each has of its own."""

    def __init__(self, group: Group, folder: Path, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.group = group
        self.restored: State | None = None  # the state that was gone on from, of all processes

    def newest(self) -> State | None:
        """The newest state that is whole, as the first process goes on from it."""
        self.restored = super().newest()
        return None if self.restored is None else part_of(self.restored, 0)

    def save(self, state: State, *, epoch: int, step: int) -> None:
        """Keep the state; no process goes on, or leaves, before it is written."""
        parts = self.group.gather(_packed({name: state[name] for name in OWN}))
        if self.group.rank == 0:
            super().save({**state, "processes": [_unpacked(part) for part in parts]}, epoch=epoch, step=step)
        self.group.gather(None)

    def save_best(self, weights: Any, *, epoch: int) -> None:
        """Keep these weights as the best so far."""
        if self.group.rank == 0:
            super().save_best(weights, epoch=epoch)

    def _time_is_over(self) -> bool:
        return self.every_seconds is not None and bool(self.group.from_first(super()._time_is_over()))


class AsInFirst(Callback):
    """Stands before and after the others: clocks differ, but all have the first's figures and stop with it."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:  # noqa: ARG002  # the hook's signature
        """Take over what the first process has."""
        known, stopped = self.group.from_first((figures, runner.stopped))
        figures.update(known)
        runner.stop(stopped)


def as_in_first(callbacks: Iterable[Callback], group: Group) -> list[Callback]:
    """Callbacks whose figures and stops are the first process's, in every process."""
    return [AsInFirst(group), *callbacks, AsInFirst(group)]


def warn_of_batch_norm(model: Any, name: str) -> None:
    """Say of a model with BatchNorm that this is not quite the training that one process would do."""
    modules: Iterable[nn.Module] = model.modules() if isinstance(model, nn.Module) else ()
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules):
        log.warning(
            "%s has BatchNorm, whose statistics each process takes over its own rows of a batch: "
            "this is not quite the training that one process would do",
            name,
        )


def part_of(state: State, rank: int) -> State:
    """A training's whole state as one of its processes goes on from it."""
    return {**state, **state["processes"][rank]}


def _by_dtype(model: Any) -> list[list[Tensor]]:
    """A model's buffers, those of a kind together; a BatchNorm's statistics, say."""
    buffers = list(model.buffers()) if isinstance(model, nn.Module) else []
    dtypes = dict.fromkeys(buffer.dtype for buffer in buffers)
    return [[buffer for buffer in buffers if buffer.dtype == dtype] for dtype in dtypes]


def _packed(state: State) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _unpacked(content: bytes) -> State:
    """On the CPU, wherever it was."""
    return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
