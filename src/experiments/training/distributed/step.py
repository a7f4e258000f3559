"""A training step shared with other processes.

Each process takes its share of each batch, and every weight has the same bits in all of them: gradients are summed,
weighted by rows, before the update, so that they are those of the whole batch's mean; a loss that is not finite in one
process stops all, as a signal does. Sums of a pass are added once, at its end, in float64.

Torch's DistributedDataParallel divides by the number of processes, which is the mean only where shares are equal, takes
nn.Modules only, and wraps the model. Its exchange of gradients while others are computed is given up.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from experiments.data import nested
from experiments.data.batches import Batches
from experiments.data.nested import Nested
from experiments.errors import TrainingError
from experiments.training.callback import Callback, Training
from experiments.training.checkpoint import Checkpoints, State
from experiments.training.distributed import sampler
from experiments.training.distributed.group import Group
from experiments.training.result import Metrics
from experiments.training.serializable import packed, unpacked
from experiments.training.step import EagerStep, Forward
from experiments.training.update import Update

log = logging.getLogger(__name__)

# The parts of a training's state that differ between processes.
OWN = ("noise", "progress")
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class JointUpdate(Update):
    """The update by the gradients of all processes' shares.

    The model's buffers, a BatchNorm's statistics for example, become the first process's.
    """

    def __init__(self, model: Any, group: Group, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.model, self.group = model, group
        self.weight = 1.0  # of this process's share in the batch

    def __call__(self, loss: Tensor, number: int | Tensor) -> None:
        """Update with the loss of this process's share, after the backward pass.

        Raises:
            TrainingError: as in Update, in all processes.
        """
        bad = loss.detach() * 0  # NaN where the loss is not finite
        for grads in _by_dtype(self._gradients()):
            flat = torch.cat([bad.to(grads[0].dtype).view(1), *(grad.reshape(-1) for grad in grads)]) * self.weight
            self.group.exchange(dist.all_reduce, flat)
            bad = bad + flat[0]
            for grad, part in zip(grads, torch.split(flat[1:], [grad.numel() for grad in grads]), strict=True):
                grad.copy_(part.view_as(grad))
        super().__call__(loss + bad, number)
        for buffers in _by_dtype(self.model.buffers() if isinstance(self.model, nn.Module) else ()):
            flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
            self.group.exchange(dist.broadcast, flat, src=0)
            for buffer, part in zip(buffers, torch.split(flat, [buffer.numel() for buffer in buffers]), strict=True):
                buffer.copy_(part.view_as(buffer))

    def _gradients(self) -> Iterator[Tensor]:
        """Yield each gradient that any process has, zero where this one has none; agree on a stop.

        Exchanged between CPUs, so that nothing waits for an accelerator.
        """
        flags = torch.tensor([self.group.wish, *(p.grad is not None for p in self.params)], dtype=torch.int32)
        self.group.exchange(dist.all_reduce, flags, op=dist.ReduceOp.MAX)
        wish, *has = flags.tolist()
        self.group.agree(wish)
        for p, some in zip(self.params, has, strict=True):
            if some and p.grad is None:
                p.grad = torch.zeros_like(p)
            if p.grad is not None:
                yield p.grad


class JointStep(EagerStep):
    """A step on a process's share of a batch of `train`, whose batches are those of all processes together."""

    update: JointUpdate

    def __init__(self, forward: Forward, update: JointUpdate, train: Batches, *, rows_at_once: int = 0) -> None:
        super().__init__(forward, update, rows_at_once=rows_at_once)
        assert isinstance(train.order, sampler.ShareOrder)
        self.rows, self.batch_size, self.steps = len(train.order.whole), train.batch_size, len(train)

    def __call__(self, xb: Nested, yb: Nested, number: int | Tensor) -> tuple[Nested, Tensor]:
        """Take one step; return the share's predictions and loss before the update."""
        group, update = self.update.group, self.update
        whole = min(self.batch_size, self.rows - int(number) % self.steps * self.batch_size)
        expected = sampler.size(whole, group.rank, group.world)
        if nested.rows(xb) != expected:
            problem = f"the loader returned {nested.rows(xb)} rows in process {group.rank}, whose share is {expected}"
            raise TrainingError(f"{problem}; only a loader that follows its order and batch size can be shared")
        update.weight = expected / whole
        if expected:
            return super().__call__(xb, yb, number)
        loss = torch.zeros((), device=self.forward.device)
        if update.scaler is not None:
            update.scaler.scale(loss)  # initialises it
        update(loss, number)
        update.zero_grad()
        return xb, loss


class JointCheckpoints(Checkpoints):
    """The checkpoints of a run of several processes: written by the first, with the parts that differ from all."""

    def __init__(self, group: Group, folder: Path, **settings: Any) -> None:
        super().__init__(folder, **settings)
        self.group = group
        self.restored: State | None = None  # the state of all processes that the training resumes from

    def newest(self) -> State | None:
        """Return the newest undamaged state, as the first process resumes from it."""
        self.restored = super().newest()
        return None if self.restored is None else part_of(self.restored, 0)

    def save(self, state: State, *, epoch: int, step: int) -> None:
        """Save the state; no process continues or ends before it is written."""
        parts = self.group.gather(packed({name: state[name] for name in OWN}))
        if self.group.rank == 0:
            super().save({**state, "processes": [unpacked(part) for part in parts]}, epoch=epoch, step=step)
        self.group.gather(None)

    def save_best(self, weights: Any, *, epoch: int) -> None:
        """Save these weights as the best so far."""
        if self.group.rank == 0:
            super().save_best(weights, epoch=epoch)

    def _time_is_over(self) -> bool:
        return self.every_seconds is not None and bool(self.group.from_first(super()._time_is_over()))


class AsInFirst(Callback):
    """Before and after other callbacks: clocks differ, but all processes get the first's metrics and stop with it."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:  # noqa: ARG002  # the hook's signature
        """Replace the metrics by the first process's."""
        known, stopped = self.group.from_first((figures, runner.stopped))
        figures.update(known)
        runner.stop(stopped)


def warn_of_batch_norm(model: Any, name: str) -> None:
    """Warn that a model with BatchNorm does not train exactly as in one process."""
    if isinstance(model, nn.Module) and any(isinstance(module, BATCH_NORMS) for module in model.modules()):
        log.warning(
            "%s has BatchNorm, whose statistics each process takes over its own rows of a batch: "
            "it does not train exactly as in one process",
            name,
        )


def part_of(state: State, rank: int) -> State:
    """Return a training's whole state as one of its processes resumes from it."""
    return {**state, **state["processes"][rank]}


def _by_dtype(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    found: dict[torch.dtype, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        found[tensor.dtype].append(tensor)
    return list(found.values())
