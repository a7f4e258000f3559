"""Many trainings as one: each step gathers a batch for every model, and computes and updates all of them at once."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from experiments import live
from experiments.data import nested
from experiments.data.nested import Nested
from experiments.errors import TrainingError
from experiments.seeds import noise_kept, noise_state, same_noise
from experiments.training.runner import Runner
from experiments.training.step import are_shares
from experiments.training.torch_private import is_hooked, mark_stepped
from hydra_plugins.experiments_batched._dropout import drawn
from hydra_plugins.experiments_batched._forward import StackedForward, attributes
from hydra_plugins.experiments_batched._rows import Pool, Rows
from hydra_plugins.experiments_batched._seat import Layout, Seat, generators, own_problems, set_generators
from hydra_plugins.experiments_batched._updates import Params, StackedSgd, clipped, update_for

OTHER = (
    "its model has other attributes, or trains other parameters, than the models that it is trained together with, or "
    "than at first; without hydra/launcher=batched it is trained alone"
)

HOOKED = (
    "a hook of its optimiser or of a parameter is not called in a stack; without hydra/launcher=batched it is trained "
    "alone"
)


class Stack:
    """Models of one architecture, each in a slot. An empty slot computes what nobody reads.

    So each model's numbers depend on the stack's layout, and neither on its slot nor on what others do.

    Args:
        layout: how many orders of the rows there are, and how many models in a row share each.
        runner: one of the trainings; the others have the same settings but for numbers.
        numbers: the loss's arguments that may differ.
    """

    def __init__(self, layout: Layout, runner: Runner, numbers: Sequence[str] = ()) -> None:
        (orders, self.sharing), self.device, self.numbers = layout, runner.device, numbers
        size = self.size = orders * self.sharing
        first = runner.step.forward
        self.forward = StackedForward(dataclasses.replace(first, model=copy.deepcopy(first.model)))
        self.transforms = list(first.train_transforms), list(first.pair_transforms)
        self.params = {name: _stacked(p, size) for name, p in runner.model.named_parameters()}
        self.buffers = {name: _stacked(buffer, size) for name, buffer in runner.model.named_buffers()}
        self.trained = [name for name, p in runner.model.named_parameters() if p.requires_grad]
        self.update = update_for(runner.optimizer, {name: self.params[name] for name in self.trained})
        self.rows = Rows(orders, runner.train, self.device)
        self.valid = Rows(size if runner.valid.order.shuffle else 1, runner.valid, self.device, part="valid")
        self.draws = self._transforms_draw(runner)
        self.stopping: Callable[[], bool] = bool
        self.attributes = attributes(runner.model)

    def answer(self, seats: Sequence[Seat]) -> None:
        """Do what each seat asks for; what is raised is theirs to raise."""
        for seat in seats:
            if attributes(seat.runner.model) != self.attributes:
                seat.problem = TrainingError(OTHER)
            elif is_hooked(seat.runner.optimizer, seat.params.values()):
                seat.problem = TrainingError(HOOKED)
        seats = [seat for seat in seats if seat.problem is None]
        try:
            for place in sorted({seat.place for seat in seats}):
                asking = [seat for seat in seats if seat.place == place]
                (self.train if asking[0].weights is None else self.evaluate)(asking)
        except Exception as error:  # noqa: BLE001  # of the user's model, of torch
            for seat in seats:
                seat.problem = error

    def train(self, seats: Sequence[Seat]) -> None:
        """Train each seat's epoch from the step where it is, up to its end or to where one of them saves its state."""
        self.forward.model.train()
        slots, runner = self._filled(seats), seats[0].runner
        for slot, seat in enumerate(slots):
            self._put(slot, seat.tensors)
        self.update.take({one.slot: one.runner.optimizer for one in seats}, {one.slot: one.params for one in seats})
        limits = [seat.runner.step.update.max_grad_norm for seat in slots]
        limit = torch.tensor([one or torch.inf for one in limits], device=self.device) if any(limits) else None
        numbers, start = self._numbers(slots), runner.progress.step
        totals, pool = list[Tensor](), Pool(seats)
        steered = [seat for seat in seats if seat.runner.scheduler is not None]
        by_step = [seat for seat in steered if seat.runner.step_scheduler_each == "step"]
        saving = [seat for seat in seats if seat.saves_within]
        for seat in seats:
            mark_stepped(seat.runner.optimizer)
        self.rows.start(slots[:: self.sharing])
        with live.phase(f"epoch {seats[0].epoch}, {len(seats)} together", runner.steps, start) as bar:
            for step in range(start, until := runner.steps):
                xb, yb = self.rows.batch(step)
                xb, mixed, masks = self._drawn(seats, xb, yb)
                given = self.params, self.buffers, (xb, mixed), numbers, masks
                pred, loss, means, grads = self.forward(*given, trained=self.trained)
                totals.append(self._step(means, grads, limit))
                for seat in by_step:
                    with own_problems(seat):
                        seat.runner.step_scheduler("step")
                if by_step and isinstance(self.update, StackedSgd):
                    self.update.set_numbers()
                pool.add(pred, mixed.argmax(2) if mixed is not yb and are_shares(mixed, yb) else mixed, loss)
                bar.at(step + 1)
                if self.stopping() or any(seat.due(step + 1) for seat in saving):
                    until = step + 1
                    break
        pool.close(whole=until == runner.steps)
        self.update.give()
        bad = torch.stack(totals).isfinite().logical_not().cpu()
        for seat in seats:
            self._leave(seat, until, [start + step for step in bad[:, seat.slot].nonzero()[:1, 0].tolist()])

    @torch.no_grad()
    def _step(self, means: Tensor, grads: Sequence[Tensor | None], limit: Tensor | None) -> Tensor:
        """Update by gradients; return a number for each model that is finite if its loss and its gradients are.

        What an update makes of a model after one that is not is not used, and the others have no part in it.
        """
        found: Params = {name: grad for name, grad in zip(self.trained, grads, strict=True) if grad is not None}
        if limit is not None:
            found = clipped(found, limit)
        total: Tensor = means + sum(grad.flatten(1).sum(1) for grad in found.values())
        self.update(found)
        return total

    @torch.no_grad()
    def evaluate(self, seats: Sequence[Seat]) -> None:
        """Evaluate each seat's weights on the validation rows, or on those before it is to stop."""
        self.forward.model.eval()
        slots, runner = self._filled(seats), seats[0].runner
        for slot, seat in enumerate(slots):
            self._put(slot, seat.weights or {})
        pool, numbers = Pool(seats), self._numbers(slots)
        self.valid.start(slots[: self.valid.size])
        for number in range(len(runner.valid)):
            xb, yb = self.valid.batch(number)
            xb = vmap(runner.step.forward.prepared)(xb)
            pred, loss, *_ = self.forward(self.params, self.buffers, (xb, yb), numbers)
            pool.add(pred, yb, loss)
            if self.stopping():
                break
        pool.close(whole=number + 1 == len(runner.valid))
        for seat in seats:
            with own_problems(seat):
                seat.figures = seat.sums.means()

    def _filled(self, seats: Sequence[Seat]) -> list[Seat]:
        """Return a seat for each slot: in one that is empty that of a model with the same order, or the first."""
        slots, taken = list[Seat](), {seat.slot: seat for seat in seats}
        for first in range(0, self.size, self.sharing):
            row = range(first, first + self.sharing)
            other = next((taken[slot] for slot in row if slot in taken), seats[0])
            slots += [taken.get(slot, other) for slot in row]
        return slots

    @torch.no_grad()
    def _put(self, slot: int, state: Mapping[str, Tensor]) -> None:
        for name, stacked in (*self.params.items(), *self.buffers.items()):
            stacked[slot].copy_(state[name])

    def _leave(self, seat: Seat, until: int, bad: Sequence[int]) -> None:
        """Leave a training as if it had taken the steps itself."""
        runner = seat.runner
        for name, own in runner.model.named_buffers():
            own.copy_(self.buffers[name][seat.slot])
        for step in bad:
            runner.step.update.note_bad(seat.epoch * runner.steps + step)
        runner.progress.step = until

    def _numbers(self, slots: Sequence[Seat]) -> dict[str, Tensor]:
        columns = zip(*(seat.numbers(self.numbers) for seat in slots), strict=True)
        return {
            name: torch.tensor(column, device=self.device) for name, column in zip(self.numbers, columns, strict=False)
        }

    def _drawn(self, seats: Sequence[Seat], xb: Nested, yb: Nested) -> tuple[Nested, Nested, list[Tensor]]:
        """Return x and y after the transforms, and the factors of each dropout; each model draws its own."""
        if not self.draws and any(self.transforms):
            xb, yb = vmap(self._transformed)(xb, yb)
        masks = self.forward.masks(nested.apply(lambda leaf: leaf[0], xb))
        if not self.draws and not masks:
            return xb, yb, []
        found: list[Any] = [None] * self.size
        for seat in seats:
            set_generators(seat.noise, self.device)
            own = nested.apply(lambda leaf: leaf[seat.slot // self.sharing], (xb, yb))  # noqa: B023  # called here
            found[seat.slot] = (*(self._transformed(*own) if self.draws else own), tuple(drawn(masks)))
            seat.noise = generators(self.device)
        filled = [found[seats[0].slot] if one is None else one for one in found]
        if not self.draws:  # what was gathered is in one piece
            return xb, yb, [torch.stack(each) for each in zip(*(own[2] for own in filled), strict=True)]
        x, y, factors = nested.apply(lambda *parts: torch.stack(parts), *filled)
        return x, y, list(factors)

    def _transformed(self, xb: Nested, yb: Nested) -> tuple[Nested, Nested]:
        for transform in self.transforms[0]:
            xb = transform(xb)
        for pair in self.transforms[1]:
            xb, yb = pair(xb, yb)
        return xb, yb

    def _transforms_draw(self, runner: Runner) -> bool:
        """Return whether the training's transforms draw random numbers, or cannot take all models' batches at once."""
        if not any(self.transforms):
            return False
        self.rows.start([Seat(runner)] * self.rows.size)
        xb, yb = self.rows.batch(0)
        with noise_kept(self.device):
            before = noise_state(self.device)
            self._transformed(*nested.apply(lambda leaf: leaf[0], (xb, yb)))
            after = noise_state(self.device)
            if not same_noise(before, before | {name: after[name] for name in ("numpy", "python")}):
                raise TrainingError(
                    "a transform draws from numpy's or Python's generator, and a stack draws from torch's"
                )
            try:
                vmap(self._transformed)(xb, yb)
            except (RuntimeError, ValueError, TypeError, LookupError):  # of one that draws, vmap's own RuntimeError
                return True
            return not same_noise(before, after)


def _stacked(tensor: Tensor, size: int) -> Tensor:
    found = tensor.detach().unsqueeze(0).repeat(size, *[1] * tensor.ndim)
    return found.requires_grad_(tensor.requires_grad)
