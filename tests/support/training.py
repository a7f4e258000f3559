"""A training small enough to be repeated by a plain loop: 50 pictures of 4x4 in batches of 8, three classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses

from experiments.components.loaders import in_memory
from experiments.data.batches import Batches, Order
from experiments.data.split import Split
from experiments.data.splits import Splits
from experiments.training.cuda_graph import GraphedStep
from experiments.training.runner import Record, Runner
from experiments.training.step import ClosureStep, EagerStep, Forward
from experiments.training.update import Update

TRAIN, VALID, BATCH = 50, 21, 8
STEPS = math.ceil(TRAIN / BATCH)
FORWARD = [field.name for field in fields(Forward)]

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA card")
# The tests of what each device computes.
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than such small tensors, most of all beside other work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rows(size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, 4, 4, generator=generator), torch.randint(0, 3, (size,), generator=generator)


SPLITS = Splits.of(train=rows(TRAIN, 1), valid=rows(VALID, 2), classes=3)


def batches(split: Split, *, size: int = BATCH, shuffle: bool = True, seed: int = 5) -> Batches:
    order = Order(len(split), shuffle=shuffle, seed=seed)
    return Batches(in_memory(split, size, order, (16,)), order, split, size, (16,))


def fresh_model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))


def make(
    optim: Callable[..., Any] | None = None,
    *,
    model: Any = None,
    optimizer: Any = None,
    scaler: torch.amp.GradScaler | None = None,
    max_grad_norm: float | None = None,
    limit_batches: int | None = None,
    pause: bool = False,
    record: Record | None = None,
    **changes: Any,
) -> Runner:
    """A runner; what of `changes` is a `Forward`'s goes there, the rest is the runner's."""
    model = model or fresh_model()
    if optimizer is None:
        optimizer = optim(model.parameters()) if optim else torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    given = {"model": model, "loss": F.cross_entropy, "device": torch.device("cpu")}
    forward = Forward(**given | {key: changes.pop(key) for key in list(changes) if key in FORWARD})
    train, valid = (
        changes.pop("train", batches(SPLITS.train)),
        changes.pop("valid", batches(SPLITS.valid, shuffle=False)),
    )
    train, valid = (replace(part, limit=limit_batches) if limit_batches else part for part in (train, valid))
    update = Update(
        list(model.parameters()),
        optimizer,
        steps=len(train),
        max_grad_norm=max_grad_norm,
        scaler=scaler,
    )
    runner = Runner(step=EagerStep(forward, update, pause=pause), train=train, valid=valid, **changes)
    runner.record = record or runner.record
    return runner


def on_a_device(runner: Runner) -> Runner:
    """The same on the CPU, but as on an accelerator: nothing is read before the epoch's end."""
    runner.waits_for_device = runner.step.update.waits = True
    return runner


def replace_loss(runner: Runner, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Have a runner that did no step yet train with another loss."""
    step = runner.step
    graphed = step if isinstance(step, GraphedStep) else None
    forward = replace(step.forward, loss=loss)
    if graphed is not None:
        steered = runner.scheduler is not None
        capture, size = graphed.capture, graphed.batch_size
        runner.step = GraphedStep(forward, step.update, capture, batch_size=size, steered=steered)
    else:
        kind = ClosureStep if isinstance(step, ClosureStep) else EagerStep
        runner.step = kind(forward, step.update, rows_at_once=step.rows_at_once)


def plain_batches(epoch: int, seed: int = 5) -> list[tuple[Tensor, Tensor]]:
    x, y = SPLITS.train.floats()
    order = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(1_000_003 * seed + epoch))
    return [(x[order[i : i + BATCH]], y[order[i : i + BATCH]]) for i in range(0, TRAIN, BATCH)]


def valid_losses(model: nn.Module) -> list[tuple[float, int]]:
    x, y = SPLITS.valid.floats()
    with torch.no_grad():
        parts = [(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, VALID, BATCH)]
        return [(F.cross_entropy(model(xb), yb).item(), len(xb)) for xb, yb in parts]


def weighted(losses: list[tuple[float, int]]) -> float:
    return sum(loss * size for loss, size in losses) / sum(size for _, size in losses)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)
