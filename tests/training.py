"""A training small enough to be repeated by a plain loop: 50 pictures of 4x4 in batches of 8, three classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from experiments.components.loaders import in_memory
from experiments.data.splits import Batches, Order, Split, Splits
from experiments.training.runner import Runner

TRAIN, VALID, BATCH = 50, 21, 8
STEPS = math.ceil(TRAIN / BATCH)


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


def make(optim: Callable[..., Any] | None = None, **changes: Any) -> Runner:
    model = changes.pop("model", None) or fresh_model()
    optimizer = optim(model.parameters()) if optim else torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    given: dict[str, Any] = {
        "model": model,
        "loss": F.cross_entropy,
        "optimizer": optimizer,
        "train": batches(SPLITS.train),
        "valid": batches(SPLITS.valid, shuffle=False),
        "device": torch.device("cpu"),
    }
    return Runner(**given | changes)


def on_a_device(runner: Runner) -> Runner:
    """The same on the CPU, but as on an accelerator: nothing is read before the epoch's end."""
    runner.waits_for_device = runner.update.waits = True
    return runner


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
