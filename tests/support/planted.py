"""Small configurations to compare, and a file of components with faults in them, to be found."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from experiments.config import discovery
from experiments.config.registry import register

# 6 steps an epoch, 12 in all; the validation rows make three batches, the last one smaller.
SMALL = ["dataset=synthetic", "dataset.train=48", "dataset.valid=20", "dataset.noise=4", "tracking=none", "device=cpu"]
SMALL += ["loader.batch_size=8", "loader.valid_batch_size=8", "optim.lr=0.05"]
FLAT = [*SMALL, "dataset.shape=[1,6,6]"]
STEPS = 12

SOURCE = '''
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from experiments import register


@register.optim("forgetful")
class Forgetful(torch.optim.SGD):
    """Forgets to set the gradients to zero."""

    def __init__(self, params, *, lr: float = 0.05) -> None:
        super().__init__(params, lr=lr, fused=True)

    def zero_grad(self, set_to_none=True) -> None:
        pass


@register.optim("amnesiac")
class Amnesiac(torch.optim.SGD):
    """Has a momentum that it does not find again in a checkpoint."""

    def __init__(self, params, *, lr: float = 0.05) -> None:
        super().__init__(params, lr=lr, momentum=0.9, fused=True)

    def load_state_dict(self, state) -> None:
        pass


@register.optim("by_hand_momentum")
class ByHand:
    """Momentum written out: it remembers in a way of its own."""

    def __init__(self, params, *, lr: float = 0.05) -> None:
        self.params, self.lr = list(params), lr
        self.moving = [torch.zeros_like(p) for p in self.params]

    def step(self) -> None:
        with torch.no_grad():
            for p, moving in zip(self.params, self.moving):
                moving.mul_(0.9).add_(p.grad)
                p -= self.lr * moving

    def zero_grad(self) -> None:
        for p in self.params:
            p.grad = None

    def state_dict(self):
        return {"moving": self.moving}

    def load_state_dict(self, state) -> None:
        self.moving = state["moving"]


@register.loss("eightfold", targets="classes")
def eightfold(pred, target):
    """Eight times the mean."""
    return 8 * F.cross_entropy(pred, target)


@register.loader("restless")
def restless(split, batch_size, order, shape):
    """Shuffles on its own account."""
    x, y = split.floats()
    rows = [(x[i].view(*shape), y[i]) for i in range(len(split))]
    return DataLoader(rows, batch_size, shuffle=True, generator=torch.Generator().manual_seed(1))


@register.model("in_halves", input="flat")
class InHalves(nn.Module):
    """The logistic model, its sums taken in two parts."""

    def __init__(self, data) -> None:
        super().__init__()
        self.lin = nn.Linear(data.features, data.outputs)

    def forward(self, xb):
        middle = xb.shape[1] // 2
        left, right = self.lin.weight[:, :middle], self.lin.weight[:, middle:]
        return xb[:, :middle] @ left.t() + xb[:, middle:] @ right.t() + self.lin.bias


@register.model("square", input="flat")
class Square(nn.Module):
    """Has a square hidden matrix, which may be held either way."""

    def __init__(self, data, *, turned: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(data.features, 5), nn.Linear(5, data.outputs)
        self.hidden, self.turned = nn.Parameter(torch.randn(5, 5)), turned

    def forward(self, xb):
        hidden = self.hidden.t() if self.turned else self.hidden
        return self.last(torch.tanh(self.first(xb)) @ hidden)


@register.model("normed", input="flat")
def normed(data):
    """Has buffers: running means, and a number of batches."""
    return nn.Sequential(nn.Linear(data.features, 5), nn.BatchNorm1d(5), nn.Linear(5, data.outputs))


@register.model("normed_otherwise", input="flat")
def normed_otherwise(data):
    """The same, but for how its running means move."""
    return nn.Sequential(nn.Linear(data.features, 5), nn.BatchNorm1d(5, momentum=0.2), nn.Linear(5, data.outputs))
'''


@pytest.fixture
def own(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The components above, gone again after the test."""
    path = workplace / "faulty.py"
    path.write_text(SOURCE, encoding="utf-8")
    for registry in register:
        monkeypatch.setattr(registry, "_components", dict(registry._components))
    discovery.register_with_hydra()
    monkeypatch.setattr(ConfigStore.instance(), "repo", copy.deepcopy(ConfigStore.instance().repo))
    monkeypatch.setenv(discovery.SETTING, str(path))
    modules = set(sys.modules)
    yield path
    for name in set(sys.modules) - modules:
        if name.startswith("experiments_own."):
            del sys.modules[name]
