"""The first steps of two jobs, alone and in a stack: whether it computes the same, and how much faster it is."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Sequence
from itertools import islice

import psutil
import torch
from torch import Tensor

from experiments.config.root import RootConfig
from experiments.data import nested
from experiments.errors import TrainingError, first_line
from experiments.runs import preparation
from experiments.training import losses
from experiments.training.meters import POOLED, POOLED_BYTES, Sums
from experiments.training.runner import Runner
from hydra_plugins.experiments_batched._member import Member, fault, loss_numbers
from hydra_plugins.experiments_batched._seat import Layout, Seat
from hydra_plugins.experiments_batched._stack import Stack

STEPS, WARM_UP = 20, 3  # the first are not timed
FASTER = 1.3  # how many times as fast a stack has to be
TOLERANCE = 1e-4  # of the loss after one step, and as much again after each further one


class Trial:
    """Two jobs that a stack shall train.

    `reason` is why it cannot, empty if it may; `numbers` are the loss's arguments that may differ.
    """

    def __init__(self, first: RootConfig, last: RootConfig) -> None:
        self.prepared = [preparation.prepare(root, ()) for root in (first, last)]
        runner = self.prepared[0].runner(None)
        self.reason = fault(runner, first)
        self.numbers = () if self.reason else loss_numbers(runner)

    def fitting(self) -> int:
        """Return how many models fit into half of the free memory, from what one step of one keeps."""
        runner, kept = self.prepared[0].runner(None), 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            xb, *taken = next(runner.train_steps(0))
        weights = sum(p.nbytes for p in runner.model.parameters())
        batch = sum(leaf.nbytes for leaf in nested.leaves(xb))
        # Weights, gradients, the optimiser's two numbers of each and a copy; activations in both directions; what
        # waits for the metrics.
        pooled = min(POOLED * sum(leaf.nbytes for leaf in nested.leaves(taken)), POOLED_BYTES)
        each: int = 6 * weights + 2 * kept + 2 * batch + pooled
        return max(1, _free(runner.device) // 2 // max(1, each))

    def verdict(self, layout: Layout) -> tuple[str, float]:
        """Return why a stack of this layout is not used, empty if it is; and how many times as fast it is."""
        if (size := layout[0] * layout[1]) < 2:
            return "the memory holds one model", 0.0
        alone = [_alone(one.runner(None)) for one in self.prepared]
        try:
            together, evaluated, seconds = self._together(layout)
        except Exception as error:  # noqa: BLE001  # of the user's model, of torch
            return f"torch.func.vmap cannot stack them: {first_line(str(error))[:200]}", 0.0
        for (own, _), found in zip(alone, together, strict=True):
            for step, (one, other) in enumerate(zip(own, found, strict=False)):
                if math.isfinite(one) and not abs(one - other) <= TOLERANCE * (1 + step) * max(abs(one), 1e-3):
                    return f"in step {step} of a trial the loss is {other:.6g} in a stack, {one:.6g} alone", 0.0
        for one, other in evaluated:
            if math.isfinite(one) and not abs(one - other) <= TOLERANCE * max(abs(one), 1e-3):
                return f"in an evaluation the loss is {other:.6g} in a stack, {one:.6g} alone", 0.0
        gain = size * min(each for _, each in alone) / seconds
        if not math.isfinite(gain):
            return "an epoch of one step is too short for a trial", 0.0
        if gain < FASTER:
            return f"a stack of {size} is {gain:.2f} times as fast in a trial, less than {FASTER}", gain
        return "", gain

    def _together(self, layout: Layout) -> tuple[list[list[float]], list[tuple[float, float]], float]:
        """Return both jobs' losses of the steps, of an evaluation alone and in the stack, and a step's seconds."""
        both = []
        for one in self.prepared:
            both.append(Member.of(one.runner(None)))
            both[-1].seat = Seat(both[-1])
            both[-1].seat.ask(0, both[-1].progress.sums)  # from here on the noise is the next one's
        orders, sharing = layout
        stack, times = Stack(layout, both[0], self.numbers), list[float]()

        def enough() -> bool:
            times.append(_now(stack.device))
            return len(times) == STEPS

        stack.stopping = enough
        # The second job in the last order, or beside the first where there is one.
        seats = [
            both[slot // sharing == orders - 1 if orders > 1 else slot % 2].seat for slot in range(orders * sharing)
        ]
        for member in both:
            member.seat.slot = seats.index(member.seat)
        stack.train([seat if seat.slot == slot else _twin(seat, slot) for slot, seat in enumerate(seats)])
        taken, seconds = [_losses(member.progress.sums) for member in both], _seconds(times)
        for member in both:
            member.seat.ask(0, Sums({}), member.seat.tensors)
        stack.stopping = lambda: True  # after a batch
        stack.evaluate([member.seat for member in both])
        return taken, [(_evaluated(member), _losses(member.seat.sums)[0]) for member in both], seconds


def _twin(seat: Seat, slot: int) -> Seat:
    """Return another training of the same rows with a model, an optimiser and a scheduler of its own."""
    member = seat.runner
    twin = copy.copy(member)
    twin.model, twin.optimizer, twin.scheduler = copy.deepcopy((member.model, member.optimizer, member.scheduler))
    twin.start_epoch()
    return Seat(twin, slot, sums=twin.progress.sums, noise=seat.noise)


def _alone(runner: Runner) -> tuple[list[float], float]:
    """Return the losses of the first steps, and the seconds of one."""
    times = list[float]()
    with contextlib.suppress(TrainingError):  # a job that cannot be trained at all says it itself
        for _, target, pred, loss in islice(runner.train_steps(0), STEPS):
            runner.progress.sums.add(pred, target, loss)
            times.append(_now(runner.device))
    return _losses(runner.progress.sums), _seconds(times)


def _evaluated(runner: Runner) -> float:
    """Return the mean loss of the first batch of validation rows."""
    runner.model.eval()
    with runner.step.forward.evaluating():
        xb, yb = next(iter(runner.valid.epoch(0)))
        return float(losses.mean(runner.step.evaluate(runner.moved(xb), runner.moved(yb))[2]))


def _seconds(times: Sequence[float]) -> float:
    """Return the seconds of a step, the median: another process may be in the way of some."""
    begun = max(0, min(WARM_UP - 1, len(times) - 2))
    each = sorted(after - before for before, after in zip(times[begun:], times[begun + 1 :], strict=False))
    return each[len(each) // 2] if each else math.inf


def _losses(sums: Sums) -> list[float]:
    """Return the mean loss of each batch so far."""
    state = sums.state_dict()
    each = [one for pool in state["losses"] for one in pool] + [loss for _, _, loss in state["pending"]]
    return [float(losses.mean(tuple(one)) if one.ndim else one) for one in each]


def _now(on: torch.device) -> float:
    if on.type == "cuda":
        torch.cuda.synchronize(on)
    return time.perf_counter()


def _free(on: torch.device) -> int:
    """Return the free bytes of a device's memory."""
    found: int = torch.cuda.mem_get_info(on)[0] if on.type == "cuda" else psutil.virtual_memory().available
    return found
