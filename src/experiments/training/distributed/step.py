"""What a runner does together with those of other processes, put around the one loop: `join` hangs it in.

Each process takes its share of each batch, and every weight stays the same bits in all of them: gradients are summed,
weighted by rows, before the update, so that they are those of the whole batch's mean; what is not finite anywhere is so
everywhere; one process's wish to leave is every one's. Sums of a pass are added once, at its end, in float64.

Torch's DistributedDataParallel divides by the number of processes, which is the mean only where shares are equal, takes
nn.Modules alone, and wraps the model. What it is for, to exchange gradients while others are computed, is given up.
"""

from __future__ import annotations

import io
import logging
import signal
from collections.abc import Iterable, Sequence
from itertools import groupby, zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.errors import TrainingError
from experiments.training.callback import Callback
from experiments.training.checkpoint import Checkpoints, State
from experiments.training.distributed import sampler
from experiments.training.distributed.group import Group
from experiments.training.result import Metrics
from experiments.training.runner import Runner
from experiments.training.update import Update

log = logging.getLogger(__name__)

# What of a training's state each process has of its own.
OWN = ("noise", "progress")


class Together:
    """Adds numbers up over all processes, at the end of each pass; then they also agree on whether to leave."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.runner: Runner | None = None

    def __call__(self, values: Sequence[float]) -> list[float]:
        """The sums, number by number; where a process has fewer, it had no rows there."""
        found = self.group.gather((list(values), self.wish))
        self.hear(max(wish for _, wish in found))
        return [sum(column) for column in zip_longest(*(values for values, _ in found), fillvalue=0)]

    @property
    def wish(self) -> int:
        """The signal by which this process has been asked to leave; 0 for none."""
        reason = self.group.leave
        if reason is None:
            return 0
        return reason.code - 128 if isinstance(reason, SystemExit) else int(signal.SIGINT)  # type: ignore[operator]  # ours

    def hear(self, wish: int) -> None:
        """Have the runner leave at the next occasion, which is the same in all processes, if one of them wants it."""
        if wish and self.runner is not None:
            self.runner.leave = KeyboardInterrupt() if wish == signal.SIGINT else SystemExit(128 + wish)


class JointStep:
    """A runner's step on a process's share of a batch, and its update by what all shares come to."""

    def __init__(self, runner: Runner, update: Update, together: Together) -> None:
        self.runner, self.update, self.together, self.group = runner, update, together, together.group
        self.rows = len(runner.train.split)
        self.weight = 1.0

    def step(self, xb: Tensor, yb: Tensor, number: int | Tensor) -> tuple[Tensor, Tensor]:
        """Forward, backward, joint update; the predictions and the loss of the share before it."""
        size = self.runner.train.batch_size
        whole = min(size, self.rows - int(number) % self.runner.steps * size)
        expected = sampler.size(whole, self.group.rank, self.group.world)
        if len(xb) != expected:
            problem = f"the loader gives process {self.group.rank} {len(xb)} rows where its share are {expected}"
            raise TrainingError(f"{problem}; only a loader that follows its order and batch size can be shared")
        self.weight = expected / whole
        if expected:
            return self.runner.step(xb, yb, number)
        loss = torch.zeros((), device=self.runner.device)
        if self.runner.scaler is not None:
            self.runner.scaler.scale(loss)  # which sets it up
        self(loss, number)
        self.runner.zero_grad()
        return xb, loss

    def __call__(self, loss: Tensor, number: int | Tensor) -> None:
        """The update: `Runner.step` calls it with the loss of its share, after the backward pass.

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
        self.update(loss + bad, number)
        for buffers in _by_dtype(self.runner.model):
            flat = torch.cat([buffer.reshape(-1) for buffer in buffers])
            self.group.copy_first(flat)
            for buffer, part in zip(buffers, torch.split(flat, [buffer.numel() for buffer in buffers]), strict=True):
                buffer.copy_(part.view_as(buffer))

    def raise_if_bad(self) -> None:
        """As of an update of its own; what was bad is the same in all processes."""
        self.update.raise_if_bad()

    def _with_gradients(self) -> list[Any]:
        """The parameters that have a gradient in any process, zero where this one has none; and whether to leave.

        Said between CPUs, so that nothing waits for an accelerator.
        """
        params = self.runner.params
        said = torch.tensor([self.together.wish, *(p.grad is not None for p in params)], dtype=torch.int32)
        self.group.largest(said)
        wish, *has = said.tolist()
        self.together.hear(wish)
        found = [p for p, some in zip(params, has, strict=True) if some]
        for p in found:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        return found


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

    def on_epoch_end(self, runner: Runner, epoch: int, figures: Metrics) -> None:  # noqa: ARG002  # the hook's signature
        """Take over what the first process has."""
        known, runner.stopped = self.group.from_first((figures, runner.stopped))
        figures.update(known)


def join(runner: Runner, name: str) -> None:
    """Have a fresh runner, made with its share of the rows and a `Together`, train with the other processes'.

    Args:
        runner: the runner.
        name: the model's.
    """
    together = runner.together
    assert isinstance(together, Together)
    together.runner = runner
    joint = JointStep(runner, runner.update, together)
    runner.take = joint.step
    runner.update = joint  # type: ignore[assignment]  # called in its place, with its two methods
    runner.callbacks = [AsInFirst(together.group), *runner.callbacks, AsInFirst(together.group)]
    modules: Iterable[nn.Module] = runner.model.modules() if isinstance(runner.model, nn.Module) else ()
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
