"""Many trainings as one: each step gathers a batch for every model, and computes and updates all of them at once."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from experiments import live
from experiments.data import nested
from experiments.data.batches import Batches
from experiments.data.nested import Nested
from experiments.data.tensors import viewed
from experiments.errors import TrainingError
from experiments.seeds import noise_kept, noise_state, same_noise
from experiments.training.meters import POOLED, POOLED_BYTES, Sums
from experiments.training.result import Metrics
from experiments.training.runner import Runner
from experiments.training.step import are_shares
from experiments.training.torch_private import mark_stepped
from hydra_plugins.experiments_batched._forward import StackedForward, attributes, drawn
from hydra_plugins.experiments_batched._updates import StackedSgd, clip, update_for

Layout = tuple[int, int]  # orders of the rows, models that share each
OTHER = (
    "its model has other attributes, or trains other parameters, than the models that it is trained together with, or "
    "than at first; without hydra/launcher=batched it is trained alone"
)
CONVERTED = 2**27  # numbers of a dataset that are kept as floats, 512 MiB


@dataclass(eq=False)
class Seat:
    """A training's place in a stack, and what it asks for.

    Args:
        runner: the training.
        slot: which of the stack's models it is.
        epoch: the epoch to be trained or evaluated.
        sums: of the epoch, or of the evaluation.
        weights: to be evaluated, by name; None to train.
        noise: torch's generators, which the stack draws from and leaves where the training continues.
        figures: the answer to an evaluation.
        problem: what the stack raised instead.
    """

    runner: Runner
    slot: int = 0
    epoch: int = 0
    sums: Sums = field(default_factory=lambda: Sums({}))
    weights: Mapping[str, Tensor] | None = None
    noise: list[Tensor] = field(default_factory=list)
    figures: Metrics = field(default_factory=dict)
    problem: BaseException | None = None

    def ask(self, epoch: int, sums: Sums, weights: Mapping[str, Tensor] | None = None) -> None:
        """Ask for an epoch's steps, or for an evaluation of these weights, added to these sums."""
        self.epoch, self.sums, self.weights, self.problem = epoch, sums, weights, None
        self.noise = generators(self.runner.device)

    @property
    def params(self) -> dict[str, Tensor]:
        """Its model's parameters by name."""
        return dict(self.runner.model.named_parameters())

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its model's parameters and buffers by name."""
        return self.params | dict(self.runner.model.named_buffers())

    @property
    def place(self) -> tuple[int, int]:
        """Where it is: those at one place are done together, since the models of a row have one order of the rows."""
        return (-1, 0) if self.weights is not None else (self.epoch, self.runner.progress.step)

    def numbers(self, names: Sequence[str]) -> list[float]:
        """Return these arguments of its loss."""
        keywords = getattr(self.runner.step.forward.loss, "keywords", {})
        return [float(keywords[name]) for name in names]


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
        self.rows = _Rows(orders, runner.train, self.device)
        self.valid = _Rows(size if runner.valid.order.shuffle else 1, runner.valid, self.device, part="valid")
        self.draws = self._transforms_draw(runner)
        self.stopping: Callable[[], bool] = bool
        self.attributes = attributes(runner.model)

    def answer(self, seats: Sequence[Seat]) -> None:
        """Do what each seat asks for; what is raised is theirs to raise."""
        for seat in seats:
            if attributes(seat.runner.model) != self.attributes:
                seat.problem = TrainingError(OTHER)
        seats = [seat for seat in seats if seat.problem is None]
        try:
            for place in sorted({seat.place for seat in seats}):
                asking = [seat for seat in seats if seat.place == place]
                (self.train if asking[0].weights is None else self._evaluate)(asking)
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
        totals, pool = list[Tensor](), _Pool(seats)
        steered = [seat.runner for seat in seats if seat.runner.scheduler is not None]
        by_step = [one for one in steered if one.step_scheduler_each == "step"]
        for seat in seats:
            mark_stepped(seat.runner.optimizer)
        self.rows.start(slots[:: self.sharing])
        with live.phase(f"epoch {seats[0].epoch}, {len(seats)} together", runner.steps, start) as bar:
            for step in range(start, until := self._until(seats, start)):
                xb, yb = self.rows.batch(step)
                xb, mixed, masks = self._drawn(seats, xb, yb)
                given = self.params, self.buffers, (xb, mixed), numbers, masks
                pred, loss, means, grads = self.forward(*given, trained=self.trained)
                totals.append(self._step(means, grads, limit))
                for one in by_step:
                    one.step_scheduler("step")
                if by_step and isinstance(self.update, StackedSgd):
                    self.update.set_rates()
                pool.add(pred, mixed.argmax(2) if mixed is not yb and are_shares(mixed, yb) else mixed, loss)
                bar.at(step + 1)
                if self.stopping():
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
        found = {name: grad for name, grad in zip(self.trained, grads, strict=True) if grad is not None}
        if limit is not None:
            clip(list(found.values()), limit)
        total: Tensor = means + sum(grad.flatten(1).sum(1) for grad in found.values())
        self.update(found)
        return total

    @torch.no_grad()
    def _evaluate(self, seats: Sequence[Seat]) -> None:
        """Evaluate each seat's weights on the validation rows."""
        self.forward.model.eval()
        slots, runner = self._filled(seats), seats[0].runner
        for slot, seat in enumerate(slots):
            self._put(slot, seat.weights or {})
        pool, numbers = _Pool(seats), self._numbers(slots)
        self.valid.start(slots[: self.valid.size])
        for number in range(len(runner.valid)):
            xb, yb = self.valid.batch(number)
            xb = vmap(runner.step.forward.prepared)(xb)
            pred, loss, *_ = self.forward(self.params, self.buffers, (xb, yb), numbers)
            pool.add(pred, yb, loss)
            if self.stopping():
                return
        pool.close(whole=True)
        for seat in seats:
            with _own_problems(seat):
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

    @staticmethod
    def _until(seats: Sequence[Seat], start: int) -> int:
        """Return the step before which no training saves its state by its number of steps."""
        end = seats[0].runner.steps
        for seat in seats:
            every = seat.runner.checkpoints.every_steps if seat.runner.checkpoints else None
            if every:
                done = seat.epoch * end + start
                end = min(end, start + every - done % every)
        return end

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


class _Rows:
    """The batches of all models, gathered at once from one copy of the rows, each in its own order."""

    def __init__(self, size: int, batches: Batches, device: torch.device, part: str = "train") -> None:
        self.size, self.batches, self.device, self.part = size, batches, device, part
        x, y = nested.apply(lambda tensor: tensor.to(device), batches.split.tensors)
        # One copy in the type that the models take, for all of them, unless it is large.
        self.converts = sum(leaf.numel() for leaf in nested.leaves(x)) > CONVERTED
        self.tensors = (x if self.converts else batches.split.inputs(x), y)

    def start(self, slots: Sequence[Seat]) -> None:
        """Take each model's order in its epoch."""
        orders = {}
        for seat in slots:
            order = getattr(seat.runner, self.part).order
            if id(seat) not in orders:
                order.epoch = seat.epoch
                found = order.indices()
                orders[id(seat)] = torch.arange(len(order)) if found is None else found
        self.orders = torch.stack([orders[id(seat)] for seat in slots]).to(self.device)

    def batch(self, number: int) -> tuple[Nested, Nested]:
        """Return x and y of the batch with this number, (models, rows, ...)."""
        size, batches = self.batches.batch_size, self.batches
        rows = self.orders[:, number * size : (number + 1) * size].reshape(-1)
        x, y = nested.apply(lambda tensor: tensor.index_select(0, rows), self.tensors)
        x = viewed(batches.split.inputs(x) if self.converts else x, batches.shape)
        y = y if batches.target_shape is None else y.view(-1, *batches.target_shape)
        each: tuple[Nested, Nested] = nested.apply(lambda t: t.unflatten(0, (self.size, -1)), (x, y))
        return each


class _Pool:
    """Adds batches to the sums of each model, where it can as many at once as sums pool themselves."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self.seats, self.kept, self.limit, self.plain = seats, list[tuple[Nested, Nested, Tensor]](), 0, True

    def add(self, pred: Nested, target: Nested, loss: Tensor) -> None:
        """Add one batch of all models."""
        sharing = len(loss) // nested.rows(target)
        target = nested.apply(lambda leaf: leaf.repeat_interleave(sharing, 0) if sharing > 1 else leaf, target)
        self.kept.append((pred, target, loss))
        if not self.limit:
            size = sum(leaf.nbytes for leaf in nested.leaves((pred, target))) // len(loss)
            self.limit = max(1, min(POOLED, -(-POOLED_BYTES // max(1, size))))
            self.plain = isinstance(pred, Tensor) and isinstance(target, Tensor)
        if len(self.kept) == self.limit:
            self.close(whole=True)

    def close(self, *, whole: bool) -> None:
        """Add what is kept; batches that are not a `whole` pool are left to the sums to pool."""
        if not self.kept:
            return
        pools = [seat for seat in self.seats if whole and self.plain and seat.sums.takes_pools]
        if pools:
            preds, targets, losses = zip(*self.kept, strict=True)
            pred, target, loss = torch.cat(preds, 1), torch.cat(targets, 1), torch.stack(losses, 1)
            sizes = [each.shape[1] for each in targets]
            for seat in pools:
                with _own_problems(seat):
                    seat.sums.add_pool(pred[seat.slot], target[seat.slot], loss[seat.slot], sizes)
        for seat in self.seats:
            for batch in () if seat in pools else self.kept:
                with _own_problems(seat):
                    seat.sums.add(*nested.apply(lambda leaf: leaf[seat.slot], batch))  # noqa: B023  # called here
        self.kept.clear()


@contextlib.contextmanager
def _own_problems(seat: Seat) -> Iterator[None]:
    """Have what a training's metrics raise be its own problem, and not that of the others."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # of the user's metric
        seat.problem = seat.problem or error


def _stacked(tensor: Tensor, size: int) -> Tensor:
    found = tensor.detach().unsqueeze(0).repeat(size, *[1] * tensor.ndim)
    return found.requires_grad_(tensor.requires_grad)


def generators(device: torch.device) -> list[Tensor]:
    """Return the state of torch's generators that a training on this device draws from."""
    found = [torch.get_rng_state()]
    return [*found, torch.cuda.get_rng_state(device)] if device.type == "cuda" else found


def set_generators(states: Sequence[Tensor], device: torch.device) -> None:
    """Continue torch's generators from these states."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
