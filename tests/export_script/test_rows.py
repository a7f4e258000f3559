"""Scripts of several inputs, tokens, labels of places and outputs of several parts print their run's losses.

So do those of settings that meet in one loop.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import experiments
from experiments.export_script.exporting import export
from tests.export_script.test_script import QUIET, same_losses
from tests.support.scripts import exported, measured, run_script
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

OWN = """
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from experiments import register


def part(value, rows):
    if isinstance(value, dict):
        return {key: each[rows] for key, each in value.items()}
    return tuple(each[rows] for each in value) if isinstance(value, tuple) else value[rows]


def split(x, y, **more):
    first, rest = slice(0, 50), slice(50, None)
    return {"train": (part(x, first), part(y, first)), "valid": (part(x, rest), part(y, rest)), **more}


@register.dataset("rows_of")
def rows_of(*, kind: str = "two"):
    g = np.random.default_rng(0)
    reals, tokens = g.normal(size=(70, 5)).astype("float32"), g.integers(0, 9, (70, 4))
    images, labels = g.integers(0, 256, (70, 6, 6)).astype("uint8"), g.integers(0, 3, 70)
    if kind == "two":
        return split((reals, tokens), labels)
    if kind == "named":
        return split({"image": images, "reals": reals}, labels)
    if kind == "tokens":
        return split(tokens, np.roll(tokens, -1, 1), classes=9, extra={"vocabulary": 9})
    if kind == "places":
        return split(images, g.integers(0, 3, (70, 6, 6)), classes=3)
    if kind == "several_labels":
        return split(reals, g.integers(0, 2, (70, 4)))
    if kind == "named_targets":
        return split(images, {"mean": images.mean((1, 2), dtype="float32") / 256, "first": labels})
    return split(images[:, None] / 256, images[:, None] / 256)


class Two(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.reals, self.tokens = nn.Linear(5, data.outputs), nn.Embedding(9, data.outputs)

    def forward(self, x):
        return self.reals(x[0]) + self.tokens(x[1]).mean(1)


class Named(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.image, self.reals, self.drop = nn.LazyConv2d(3, 6), nn.Linear(5, data.outputs), nn.Dropout(0.2)

    def forward(self, x):
        return self.drop(self.image(x["image"]).flatten(1) + self.reals(x["reals"]))


class Tokens(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.body = nn.Sequential(nn.Embedding(data.extra["vocabulary"], 4), nn.Linear(4, data.outputs))

    def forward(self, x):
        return self.body(x).transpose(1, 2)


class Coder(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.conv = nn.LazyConv2d(1, 3, padding=1)

    def forward(self, x):
        return {"image": self.conv(x), "size": x.mean((1, 2, 3))}


@register.model("model_of")
def model_of(data, *, kind: str = "two"):
    if kind == "places":
        return nn.Conv2d(1, data.outputs, 1)
    if kind == "several_labels":
        return nn.Linear(data.features, data.outputs)
    return {"two": Two, "named": Named, "tokens": Tokens, "parts": Coder, "named_targets": TwoTargets}[kind](data)


@register.model("lazy_flat", input="flat")
def lazy_flat(data):
    return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(data.outputs))


@register.loss("own_bce")
def own_bce(pred, target):
    return F.binary_cross_entropy_with_logits(pred, target)


class TwoTargets(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.conv, self.mean, self.first = nn.Conv2d(1, 4, 3), nn.Linear(64, 1), nn.Linear(64, 3)

    def forward(self, x):
        x = self.conv(x).flatten(1)
        return {"mean": self.mean(x).squeeze(1), "first": self.first(x)}


@register.loss("own_heads")
class OwnHeads:
    def __call__(self, pred, target):
        assert pred["mean"].shape == target["mean"].shape
        return F.mse_loss(pred["mean"], target["mean"]) + F.cross_entropy(pred["first"], target["first"])


@register.loss("own_parts")
def own_parts(pred, target):
    return F.mse_loss(pred["image"], target) + pred["size"].mean()


class Batches:
    def __init__(self, split, batch_size, order, shape):
        self.x, self.y = split.floats()
        self.x, self.size, self.order = self.x.view(-1, *shape), batch_size, order

    def __len__(self):
        return len(self.order) // self.size

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.order.seed % 100 + self.order.epoch)
        rows = torch.randperm(self.order.size, generator=generator) if self.order.shuffle else torch.arange(len(self.x))
        for chosen in rows.split(self.size)[: len(self)]:
            yield self.x[chosen], self.y[chosen]


@register.loader("whole_batches")
def whole_batches(split, batch_size, order, shape):
    return Batches(split, batch_size, order, shape)


@register.loader("reads_more")
def reads_more(split, batch_size, order, shape):
    return Batches(split, batch_size, order, shape) if split.collate is None else None


@register.dataset("two_heads")
def two_heads():
    g = np.random.default_rng(0)
    x = g.normal(size=(70, 5)).astype("float32")
    return split(x, (g.integers(0, 3, 70), x[:, :2]))


@register.model("heads_model")
class Heads(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.label, self.place = nn.Linear(5, 3), nn.Linear(5, 2)

    def forward(self, x):
        return self.label(x), self.place(x)


@register.loss("heads_loss")
def head_loss(pred, target):
    return F.cross_entropy(pred[0], target[0]) + F.mse_loss(pred[1], target[1])


@register.loss("weighted_by_class", targets="classes")
def weighted(pred, target):
    weight = torch.arange(1.0, pred.shape[1] + 1)
    return F.cross_entropy(pred, target, weight=weight, reduction="sum"), weight[target].sum()


@register.step("plain_step")
def plain_step(training, xb, yb):
    pred = training.model(xb)
    loss = training.loss(pred, yb) + 0.1
    training.update(loss)
    return pred, yb, loss


@register.step("evaluated_step")
class Evaluated:
    def train(self, training, xb, yb):
        pred = training.model(xb)
        loss = training.loss(pred, yb)
        training.update(loss)
        return pred, yb, loss

    def evaluate(self, training, xb, yb):
        pred = training.model(xb)
        return pred, yb, 2 * training.loss(pred, yb)
"""
KINDS = ["two", "named", "tokens", "places", "several_labels", "parts", "named_targets"]
LOSSES = {"several_labels": "own_bce", "parts": "own_parts", "named_targets": "own_heads"}


@pytest.fixture(scope="module")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own_rows.py"
    path.write_text(OWN)
    return path


@pytest.fixture(autouse=True)
def own(own_file: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(own_file))


def chosen(kind: str) -> list[str]:
    loss = f"loss={LOSSES.get(kind, 'cross_entropy')}"
    small = [*QUIET, "epochs=2", "loader.batch_size=16", "optim.lr=0.01", "metrics=none"]
    return [*small, "dataset=rows_of", f"dataset.kind={kind}", "model=model_of", f"model.kind={kind}", loss]


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_has_rows_of_any_form(kind: str, workplace: Path) -> None:
    assert same_losses(chosen(kind), workplace)


@pytest.mark.parametrize("loader", ["slices", "dataloader"])
def test_several_inputs_come_from_each_loader(loader: str, workplace: Path) -> None:
    assert same_losses(
        [*chosen("named"), f"loader={loader}", "loader.shuffle=false", "loader.drop_last=true"], workplace
    )


SMALL = ["dataset=digits", "epochs=2", "optim.lr=0.01", *QUIET]


def test_lazy_layers_draw_their_weights_from_the_init_stream(workplace: Path) -> None:
    first, other = (
        experiments.run([*SMALL, "epochs=1", "model=lazy_flat", f"seeds.noise={noise}"]).untrained for noise in (1, 2)
    )
    assert first == other
    assert same_losses([*SMALL, "model=lazy_flat"], workplace)


def test_a_custom_loader_is_made_as_in_the_run(workplace: Path) -> None:
    assert same_losses([*SMALL, "model=mlp", "loader=whole_batches", "scheduler=one_cycle"], workplace)


def test_a_custom_loader_that_reads_what_a_script_has_not_is_refused() -> None:
    with pytest.raises(experiments.ConfigError, match="reads_more reads split.collate; in a script split has dataset"):
        export([*SMALL, "model=mlp", "loader=reads_more"])


DIGITS = ["dataset=digits", "model=mlp", "limit_batches=6", "loader.batch_size=48"]
HEADS = ["dataset=two_heads", "model=heads_model", "loss=heads_loss", "loader.batch_size=16"]
WEIGHTED = [*DIGITS, "loss=weighted_by_class"]
DECAYED = ["optim=adamw", "optim.groups=no_decay", "freeze=[0]", "scheduler=one_cycle", "max_grad_norm=0.1"]


@pytest.mark.parametrize(
    "settings",
    [
        [*DIGITS, "accumulate=3", *DECAYED, "model.dropout=0.3"],
        [*WEIGHTED, "evaluation.mean=batches", "device.precision=bf16"],
        [*WEIGHTED, "step=plain_step"],
        [*WEIGHTED, "step=evaluated_step", "evaluation.mean=batches", "max_grad_norm=0.1"],
        [*WEIGHTED, "optim=lbfgs"],
        [*DIGITS, "step=evaluated_step", "scheduler=plateau", "transforms=[mixup,normalize]"],
        [*DIGITS, "transforms=[normalize,cutmix]", "model=cnn_adaptive", "accumulate=2"],
        [*DIGITS, "loader=whole_batches", "loader.drop_last=true", "accumulate=2"],
        [*DIGITS, "model=lazy_flat", "freeze=['0']", "transforms=[normalize]", "device.precision=bf16"],
        [*chosen("tokens"), "loader=slices", "accumulate=2", "loader.drop_last=true"],
        [*chosen("two"), "loader=wrapped_dataloader", "loader.draw=balanced", "step=plain_step"],
        [*HEADS, "device.precision=bf16", "step=evaluated_step", "loader.shuffle=false"],
        HEADS,
    ],
    ids=" ".join,
)
def test_settings_that_meet(settings: list[str], workplace: Path) -> None:
    given = [*SMALL, "metrics=none", *settings]
    assert same_losses([*{part.partition("=")[0]: part for part in given}.values()], workplace)


def test_lazy_layers_get_another_runs_weights(workplace: Path) -> None:
    given = [*SMALL, "epochs=1", "model=lazy_flat"]
    first = experiments.run(given)
    second = [*given, f"init_from={first.folder}", "optim=adam"]
    losses = measured(first) + measured(experiments.run(second))
    assert run_script(exported(second, workplace), str(workplace / "rows.npz")) == losses


def test_several_inputs_are_not_split_by_a_script() -> None:
    with pytest.raises(experiments.ConfigError, match="accumulate: a script takes batches of several inputs"):
        export([*chosen("two"), "accumulate=2"])
