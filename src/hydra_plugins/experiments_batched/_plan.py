"""Which jobs are trained together: those that differ in numbers alone, where a trial shows that it is right and faster.

What was decided is kept in the sweep's folder, for a model's last bits depend on the size of its stack.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from experiments import live
from experiments.config.root import RootConfig, flatten
from experiments.data import nested
from experiments.errors import UserError, first_line
from experiments.files import replacing
from experiments.runs import preparation
from experiments.runs.fingerprint import WITHOUT_EFFECT
from experiments.training import device, losses
from experiments.training.runner import Runner
from hydra_plugins.experiments_batched._member import Member, fault, loss_numbers
from hydra_plugins.experiments_batched._stack import Seat, Stack

log = logging.getLogger(__name__)

FILE = "stacks.json"
STEPS, WARM_UP = 20, 3  # of a trial; the first are not timed
FASTER = 1.3  # how many times as fast a stack has to be
TOLERANCE = 1e-4  # of the loss after one step, and as much again after each further one
MOST = 64  # models of a stack, where nothing is configured: more gain nothing on a CPU
ALONE = 0


@dataclass
class Group:
    """Jobs that may be trained together.

    Args:
        roots: their configurations by number.
        size: how many are in a stack; ALONE for one after the other.
        reason: why that is so.
    """

    roots: dict[int, RootConfig] = field(default_factory=dict)
    size: int = ALONE
    reason: str = ""

    def stacks(self) -> Iterator[list[int]]:
        """Yield the numbers of each stack's jobs, or those of all that are trained one after the other."""
        numbers = list(self.roots)
        step = self.size or len(numbers)
        yield from (numbers[start : start + step] for start in range(0, len(numbers), step))


def planned(sweep: Path, roots: Mapping[int, RootConfig], stack: int | str) -> list[Group]:
    """Return the groups of jobs, as decided in the sweep's folder or by a trial now.

    `stack` is how many models there are in a stack at most; "auto": as many as half of the free memory holds.
    """
    path = sweep / FILE
    known: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    decided: dict[str, Group] = {}
    undecided: dict[str, Group] = {}
    for number, root in roots.items():
        kind, size = signature(root), known.get(str(number))
        if size is None:
            undecided.setdefault(kind, Group()).roots[number] = root
        else:
            group = decided.setdefault(f"{kind} {size}", Group(size=size, reason="as decided before"))
            group.roots[number] = root
    found = [one for group in undecided.values() for one in decide(group, stack)]
    known |= {str(number): group.size for group in found for number in group.roots}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(known), encoding="utf-8")
    return [*decided.values(), *found]


def signature(root: RootConfig, apart: Sequence[str] = ("loss",)) -> str:
    """Return what jobs have to share: all that determines a result but seeds and the optimiser's and loss's numbers."""
    settings = flatten(root.model_dump(exclude=WITHOUT_EFFECT | {"seed", "seeds"}))
    kept = {key: value for key, value in settings.items() if not (_is_number(value) and key.split(".")[0] in (*apart, "optim"))}
    return json.dumps(kept, sort_keys=True, default=str)


def _is_number(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_number, value))
    return type(value) in (int, float)


def decide(group: Group, stack: int | str) -> list[Group]:
    """Return the group with its size; several, where the loss takes no numbers of each model's own."""
    first, *others = group.roots.values()
    if not others:
        return [Group(group.roots, reason="no other job has its settings")]
    if first.device.batched is not None:
        return [Group(group.roots, reason="device.batched is given")]
    if stack == 1:
        return [Group(group.roots, reason="hydra.launcher.stack=1")]
    try:
        with device.settings_kept(), live.phase(f"trying {len(group.roots)} jobs together"):
            trial = Trial(first, [*others][-1])
            if not trial.reason and not trial.numbers and (parts := _by_loss(group)):
                return [one for part in parts for one in decide(part, stack)]
            jobs = len(group.roots)
            count = -(-jobs // (stack if isinstance(stack, int) else min(MOST, trial.fitting())))
            size = -(-jobs // count)
            reason, gain = trial.verdict(size)
    except UserError as error:  # the job itself will say it
        return [Group(group.roots, reason=first_line(str(error)))]
    return [Group(group.roots, ALONE if reason else size, reason or f"{gain:.1f} times as fast in a trial")]


def _by_loss(group: Group) -> list[Group]:
    parts: dict[str, Group] = {}
    for number, root in group.roots.items():
        parts.setdefault(signature(root, ()), Group()).roots[number] = root
    return list(parts.values()) if len(parts) > 1 else []


class Trial:
    """The first steps of two jobs, alone and in a stack."""

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
            xb, *_ = next(runner.train_steps(0))
        weights = sum(p.nbytes for p in runner.model.parameters())
        batch = sum(leaf.nbytes for leaf in nested.leaves(xb))
        # Weights, gradients, the optimiser's two numbers of each and a copy, and activations in both directions.
        each = 6 * weights + 2 * kept + 2 * batch
        return max(1, _free(runner.device) // 2 // max(1, each))

    def verdict(self, size: int) -> tuple[str, float]:
        """Return why a stack of this size is not used, empty if it is; and how many times as fast it is."""
        if self.reason:
            return self.reason, 0.0
        if size < 2:
            return "the memory holds one model", 0.0
        alone = [_alone(one.runner(None)) for one in self.prepared]
        try:
            together, seconds = self._together(size)
        except Exception as error:  # noqa: BLE001  # of the user's model, of torch
            return f"not stacked by torch.func.vmap: {first_line(error)[:200]}", 0.0
        for (own, _), found in zip(alone, together, strict=True):
            for step, (one, other) in enumerate(zip(own, found, strict=True)):
                if not abs(one - other) <= TOLERANCE * (1 + step) * max(abs(one), 1e-3):
                    return f"in step {step} of a trial the loss is {other:.6g} in a stack, {one:.6g} alone", 0.0
        gain = size * sum(seconds for _, seconds in alone) / 2 / seconds
        if gain < FASTER:
            return f"together they are {gain:.2f} times as fast in a trial; {FASTER} is asked for", gain
        return "", gain

    def _together(self, size: int) -> tuple[list[list[float]], float]:
        members = [Member.of(one.runner(None)) for one in self.prepared]
        stack = Stack(size, members[0], self.numbers)
        for member, slot in zip(members, (0, size - 1), strict=True):
            member.seat = Seat(member, slot)
        times = list[float]()

        def enough() -> bool:
            _wait(members[0].device)
            times.append(time.perf_counter())
            return len(times) == STEPS

        stack.stopping = enough
        for member in members:
            member.seat.ask(epoch=0)
        stack.train([member.seat for member in members])
        return [_losses(member) for member in members], (times[-1] - times[WARM_UP - 1]) / (len(times) - WARM_UP)


def _alone(runner: Runner) -> tuple[list[float], float]:
    """Return the losses of the first steps, and the seconds of one."""
    times = list[float]()
    for _, target, pred, loss in islice(runner.train_steps(0), STEPS):
        runner.progress.sums.add(pred, target, loss)
        _wait(runner.device)
        times.append(time.perf_counter())
    return _losses(runner), (times[-1] - times[WARM_UP - 1]) / (len(times) - WARM_UP)


def _losses(runner: Runner) -> list[float]:
    """Return the mean loss of each step of the epoch so far."""
    state = runner.progress.sums.state_dict()
    each = [one for pool in state["losses"] for one in pool] + [loss for _, _, loss in state["pending"]]
    return [float(losses.mean(tuple(one)) if one.ndim else one) for one in each]


def _wait(on: torch.device) -> None:
    if on.type == "cuda":
        torch.cuda.synchronize(on)


def _free(on: torch.device) -> int:
    """Return the free bytes of a device's memory."""
    return int(torch.cuda.mem_get_info(on)[0] if on.type == "cuda" else psutil.virtual_memory().available)


def tell(numbers: Sequence[int], group: Group) -> None:
    """Log what is done with jobs."""
    shown = f"jobs {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"job {numbers[0]}"
    if numbers != [*range(numbers[0], numbers[-1] + 1)]:
        shown = f"jobs {', '.join(map(str, numbers))}"
    log.info("%s   %s: %s", shown, "trained together" if group.size else "one after the other", group.reason)
