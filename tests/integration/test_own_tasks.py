"""Tasks of other kinds than images of one class: several inputs, tokens, labels of places, several labels, none.

Each trains on small rows of its own, resumes where it was, and repeats its figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch.utils.data import Dataset, IterableDataset

import experiments
from experiments.config.registry import Component, Registry, register
from experiments.parity import judge
from experiments.runs import evaluation
from experiments.training import build

QUIET = ["tracking=none", "figures=false", "device=cpu", "device.threads=1", "optim=adam", "optim.lr=0.05"]
Own = Callable[..., None]


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    """Register a component for one test."""

    def add(registry: Registry, name: str, factory: Any, **facts: Any) -> None:
        monkeypatch.setitem(registry._components, name, Component(registry.kind, name, factory, facts))

    build.forget_dataset()
    yield add
    build.forget_dataset()


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tokens(*shape: int, most: int = 7) -> Tensor:
    return torch.randint(0, most, shape, generator=torch.Generator().manual_seed(1))


def halves(x: Any, y: Any) -> dict[str, Any]:
    """Return 24 rows for training and the rest for validation."""
    from experiments.data import nested

    def part(rows: slice) -> tuple[Any, Any]:
        cut = nested.apply(lambda tensor: tensor[rows], (x, y))
        return cut[0], cut[1]

    return {"train": part(slice(0, 24)), "valid": part(slice(24, None))}


class Twins(nn.Module):
    def __init__(self, data: experiments.DataSpec) -> None:
        super().__init__()
        self.body = nn.Linear(data.shape[0][0], data.outputs)

    def forward(self, x: tuple[Tensor, Tensor]) -> Any:
        one, other = x
        return self.body(one - other)


class Sentence(nn.Module):
    def __init__(self, data: experiments.DataSpec) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(data.extra["vocabulary"], 4), nn.Linear(4, data.outputs)

    def forward(self, x: dict[str, Tensor]) -> Any:
        kept = self.embedding(x["ids"]) * x["mask"].unsqueeze(-1)
        return self.out(kept.sum(1))


class NextToken(nn.Module):
    def __init__(self, data: experiments.DataSpec) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(7, 4), nn.Linear(4, data.outputs)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.embedding(x)).transpose(1, 2)


class Vae(nn.Module):
    def __init__(self, data: experiments.DataSpec) -> None:
        super().__init__()
        self.code, self.back = nn.Linear(data.features, 4), nn.Linear(2, data.features)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = self.code(x).chunk(2, 1)
        return self.back(mean + torch.randn_like(mean) * spread.exp()), mean, spread


def elbo(pred: tuple[Tensor, Tensor, Tensor], target: Tensor) -> Tensor:
    back, mean, spread = pred
    return F.mse_loss(back, target) + (mean.square() + spread.square()).mean()


class Ragged(Dataset[Any]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.arange(1, 2 + index % 5), index % 2


class Lines(IterableDataset[Any]):
    """Rows drawn in each pass."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.rows):
            x = torch.randn(3)
            yield x, x.sum()


def padded(items: list[Any]) -> tuple[Tensor, Tensor]:
    x = nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True)
    return F.pad(x, (0, 5 - x.shape[1])), torch.tensor([y for _, y in items])


def bag(data: experiments.DataSpec) -> nn.Module:
    return nn.EmbeddingBag(8, data.outputs)


def conv(data: experiments.DataSpec) -> nn.Module:
    return nn.Conv2d(data.shape[0], data.outputs, 3, padding=1)


def autoencoder(data: experiments.DataSpec) -> nn.Module:
    return nn.Conv2d(data.shape[0], data.shape[0], 3, padding=1)


def recurrent(data: experiments.DataSpec) -> nn.Module:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.out = nn.GRU(data.shape[1], 4, batch_first=True), nn.Linear(4, data.outputs)

        def forward(self, x: Tensor) -> Any:
            return self.out(self.cells(x)[1][0])

    return Last()


LABELS = torch.arange(32) % 3
# The dataset, the model and its facts, and what else is set.
TASKS: dict[str, tuple[Callable[[], Any], Any, dict[str, Any], list[str]]] = {
    "two inputs": (lambda: halves((draws(32, 4), draws(32, 4, seed=1)), LABELS), Twins, {}, []),
    "tokens and a mask by name": (
        lambda: halves({"ids": tokens(32, 5), "mask": tokens(32, 5) > 1}, LABELS) | {"extra": {"vocabulary": 7}},
        Sentence,
        {},
        [],
    ),
    "tokens": (lambda: halves(tokens(32, 5), LABELS), bag, {"input": "tokens"}, []),
    "bytes as tokens": (lambda: halves(tokens(32, 5).byte(), LABELS), bag, {"input": "tokens"}, []),
    "tokens of a model that says nothing": (lambda: halves(tokens(32, 5), LABELS), bag, {}, []),
    "the next token": (lambda: halves(tokens(32, 5), tokens(32, 5)) | {"classes": 7}, NextToken, {}, []),
    "labels of pixels": (
        lambda: halves(draws(32, 1, 6, 6), tokens(32, 6, 6, most=3)) | {"classes": 3},
        conv,
        {"input": "image"},
        [],
    ),
    "real pixels": (
        lambda: halves(draws(32, 1, 6, 6), draws(32, 1, 6, 6)),
        autoencoder,
        {"input": "image"},
        ["loss=mse", "metrics=none"],
    ),
    "several labels": (
        lambda: halves(draws(32, 4), (draws(32, 3) > 0).long()),
        lambda data: nn.Linear(data.features, data.outputs),
        {},
        ["loss=binary_cross_entropy", "metrics=none"],
    ),
    "no targets": (
        lambda: {"train": draws(24, 1, 6, 6), "valid": draws(8, 1, 6, 6), "targets": "input"},
        autoencoder,
        {"input": "image"},
        ["loss=mse", "metrics=none"],
    ),
    "several outputs": (
        lambda: {"train": draws(24, 6), "valid": draws(8, 6), "targets": "input"},
        Vae,
        {},
        ["loss=elbo", "metrics=none"],
    ),
    "sequences": (
        lambda: halves(draws(32, 6, 2), draws(32, 1)) | {"shape": (6, 2)},
        recurrent,
        {},
        ["loss=mse", "metrics=none"],
    ),
    "a stream": (
        lambda: {"train": Lines(24), "valid": Lines(8), "rows": {"train": 24, "valid": 8}},
        lambda data: nn.Linear(data.features, data.outputs),
        {},
        ["loss=mse", "metrics=none", "loader=dataloader"],
    ),
    "rows of different length": (
        lambda: {"train": Ragged(), "valid": Ragged(), "classes": 2, "digest": "ragged", "collate": padded},
        bag,
        {"input": "tokens"},
        ["loader=dataloader"],
    ),
}


VOCABULARY = {"extra": {"vocabulary": 7}}
# The dataset, a shipped model, and what else is set.
SHIPPED: dict[str, tuple[Callable[[], Any], str, list[str]]] = {
    "lstm, tokens": (lambda: halves(tokens(32, 5), LABELS) | VOCABULARY, "lstm", []),
    "lstm, sequences": (
        lambda: halves(draws(32, 6, 2), draws(32, 1)) | {"shape": (6, 2)},
        "lstm",
        ["loss=mse", "metrics=none"],
    ),
    "lstm, next token": (
        lambda: halves(tokens(32, 5), tokens(32, 5)) | {"classes": 7} | VOCABULARY,
        "lstm",
        [],
    ),
    "transformer, next token": (
        lambda: halves(tokens(32, 5), tokens(32, 5)) | {"classes": 7} | VOCABULARY,
        "transformer_small",
        ["optim.lr=0.005"],
    ),
    "unet": (lambda: halves(draws(32, 1, 6, 5), tokens(32, 6, 5, most=3)) | {"classes": 3}, "unet_small", []),
    "resnet": (lambda: halves(draws(32, 2, 6, 5), LABELS), "resnet_small", []),
    "autoencoder": (
        lambda: halves(draws(32, 1, 6, 5), LABELS),
        "autoencoder",
        ["loss=reconstruction", "metrics=none", "optim.lr=0.005"],
    ),
}


@pytest.fixture(params=[*TASKS, *SHIPPED])
def settings(request: pytest.FixtureRequest, own: Own) -> list[str]:
    if request.param in SHIPPED:
        dataset, model, others = SHIPPED[request.param]
    else:
        dataset, made, facts, others = TASKS[request.param]
        model = "net"
        own(register.model, model, made, **facts)
    own(register.dataset, "rows", dataset)
    own(register.loss, "elbo", elbo)
    return ["dataset=rows", f"model={model}", *QUIET, "loader.batch_size=8", *others, "epochs=3"]


def test_it_trains_and_its_loss_falls(settings: list[str], tmp_path: Path) -> None:
    result = experiments.run([*settings, f"output_root={tmp_path}"])
    losses = [figures["train/loss"] for figures in result.history]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    # A model that draws in evaluation has other figures there each time.
    if "loss=elbo" not in settings:
        assert result.folder is not None
        again = evaluation.evaluate(result.folder)
        assert again["valid/loss"] == result.history[-1]["valid/loss"]


def test_it_resumes_within_an_epoch_bit_for_bit(settings: list[str]) -> None:
    assert judge.resumed(settings, at=4, steps=8).verdict == "identical"
