"""Each rule names a planted fault, and is silent beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses

from experiments.config import check
from experiments.config.registry import register
from experiments.doctor import batch, data, history, model
from experiments.doctor.finding import Rules
from experiments.doctor.history import Trained
from experiments.runs import preparation
from experiments.tracking.record import RunRecord, Start
from experiments.training import build
from experiments.training import device as devices
from tests.support.places import ROOT

LAYERS: Mapping[str, Rules[Any]] = {"a": history.rule, "b": data.rule, "c": model.rule}


# Layer a: journals


def run(
    valid: list[float],
    train: list[float] | None = None,
    accuracy: float = 0.9,
    *,
    untrained: float = 2.3,
    never: tuple[str, ...] = (),
    params: Mapping[str, str] | None = None,
) -> Trained:
    """A run of 100 steps an epoch, of ten classes with as many rows each."""
    train = train or valid
    history = [
        {"train/loss": one, "valid/loss": other, "valid/accuracy": accuracy}
        for one, other in zip(train, valid, strict=True)
    ]
    usual = {"loader.batch_size": "64", "init_from": "null", "step.name": "supervised", "loss.name": "cross_entropy"}
    spec = {"classes": True, "outputs": 10, "counts": [640] * 10, "sizes": {"train": 6400, "valid": 1000}}
    return Trained(
        RunRecord(
            folder=Path("run"),
            start=Start(id="1", params=usual | {"optim.lr": "0.1"} | dict(params or {}), data=spec),
            metrics={"untrained/valid_loss": {0: untrained}},
            history=history,
        ),
        never,
    )


WELL = [0.6, 0.4, 0.3, 0.28]
JOURNALS: dict[str, tuple[Trained, Trained]] = {
    "not-finite": (run([0.6, float("nan")]), run([0.6, 0.5])),
    "weight-decay": (
        run(WELL, params={"optim.weight_decay": "0.5"}),
        run(WELL, params={"optim.weight_decay": "0.0005"}),
    ),
    "first-loss": (run(WELL, untrained=20), run(WELL, untrained=3)),
    "worse-than-untrained": (run([2.9, 2.8, 2.7]), run([2.9, 2.0, 1.5])),
    "diverging": (run(WELL, [0.6, 0.4, 0.5, 0.9]), run(WELL, [0.6, 0.4, 0.41, 0.4])),
    "creeping": (run([2.28, 2.26, 2.24]), run([2.28, 2.2, 1.9])),
    "at-chance": (run([2.31, 2.303], accuracy=0.104), run([2.29, 2.1], accuracy=0.104)),
    "class-never-predicted": (run(WELL, never=("cat",)), run([0.6], never=("cat",))),  # one epoch is early
    "overfitting": (
        run([0.5, 0.4, 0.45, 0.5, 0.55], [0.6, 0.4, 0.3, 0.2, 0.1]),
        run([0.5, 0.4, 0.41, 0.42, 0.41], [0.6, 0.4, 0.3, 0.2, 0.1]),
    ),
    "validation-better": (
        run([0.3, 0.2, 0.19], [1.2, 0.9, 0.8]),
        run([0.3, 0.2, 0.19], [1.2, 0.9, 0.8], params={"model.dropout": "0.5"}),
    ),
}


# Layers b and c: datasets and models


@dataclass(frozen=True)
class Case:
    """A training of 200 rows of 16 numbers and three classes, unless it has others."""

    rows: Callable[[], dict[str, Any]] | None = None
    model: Callable[[], nn.Module] | None = None
    optim: type[torch.optim.SGD] = torch.optim.SGD
    overrides: tuple[str, ...] = ()
    shown: dict[str, Any] = field(default_factory=dict)


def points(classes: int = 3, size: int = 300) -> tuple[Tensor, Tensor]:
    """Rows, and as labels the largest of so many linear functions of them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 16, generator=generator)
    return x, (x @ torch.randn(16, classes, generator=generator)).argmax(1)


def split(x: Tensor, y: Tensor, **more: Any) -> dict[str, Any]:
    return {"train": (x[:200], y[:200]), "valid": (x[200:], y[200:]), **more}


def rows(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = lambda x, y: (x, y), **more: Any) -> Any:
    return lambda: split(*change(*points()), **more)


def in_order_of_class(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.cat([y[:200].argsort(), torch.arange(200, 300)])
    return x[order], y[order]


def repeated(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([x[:200], x[:100]]), torch.cat([y[:200], y[:100]])


def shifted(by: float) -> Any:
    return rows(lambda x, y: (torch.cat([x[:200], x[200:] + by]), y))


def mostly(share: float) -> Any:
    return rows(lambda x, y: (x, (torch.arange(300) % 100 >= 100 * share).long()))


def constant(columns: int) -> Any:
    return rows(
        lambda x, y: (
            torch.cat([x[:, :1].repeat(1, 32 - columns) + torch.rand(300, 1), x.new_ones(300, columns)], 1),
            y,
        )
    )


def images(*shape: int) -> Any:
    return rows(lambda x, y: (torch.randn(300, *shape), y), shape=shape)


PLAIN, MSE = ("loader.shuffle=false",), ("loss=mse", "metrics=none")
DATA: dict[str, tuple[Case, Case]] = {
    "sorted-labels": (Case(rows(in_order_of_class), overrides=PLAIN), Case(rows(), overrides=PLAIN)),
    "rows-in-both": (Case(rows(repeated)), Case(rows())),
    "one-hot-targets": (
        Case(rows(lambda x, y: (x, F.one_hot(y).float())), overrides=MSE),
        Case(rows(lambda x, y: (x, x[:, :3])), overrides=MSE),
    ),
    "channels-last": (Case(images(8, 8, 3)), Case(images(3, 8, 8))),
    "input-scale": (Case(rows(lambda x, y: (60 * x + 128, y))), Case(rows(lambda x, y: (2 * x + 1, y)))),
    "constant-features": (Case(constant(31)), Case(constant(8))),
    "empty-class": (Case(rows(classes=4)), Case(rows(classes=3))),
    "class-shares": (Case(mostly(0.95)), Case(mostly(0.7))),
    "split-drift": (Case(shifted(2.0)), Case(shifted(0.1))),
}


class Net(nn.Module):
    """Two layers, with what a case adds."""

    def __init__(self, *last: nn.Module, bias: float = 0.0) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(16, 8), nn.Linear(8, 3), nn.Sequential(*last)
        if bias:
            nn.init.constant_(self.first.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.hidden(x)))  # type: ignore[no-any-return]

    def hidden(self, x: Tensor) -> Tensor:
        return F.relu(self.first(x.flatten(1)))


class Detached(Net):
    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x).detach()


class Frozen(Net):
    def __init__(self) -> None:
        super().__init__()
        self.first.requires_grad_(False)


class Blind(Net):
    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(0 * x)


class StaysInTraining(Net):
    def eval(self) -> StaysInTraining:
        return self


class NoisyAlways(Net):
    def hidden(self, x: Tensor) -> Tensor:
        return F.dropout(super().hidden(x))


class NoisyInTraining(Net):
    def hidden(self, x: Tensor) -> Tensor:
        return F.dropout(super().hidden(x), training=self.training)


class MostlyDropped(Net):
    def hidden(self, x: Tensor) -> Tensor:
        return F.dropout(super().hidden(x), p=0.95, training=self.training)


class Centred(Net):
    axis = 0

    def hidden(self, x: Tensor) -> Tensor:
        return super().hidden(x - x.mean(self.axis, keepdim=True))


class CentredRows(Centred):
    axis = 1


class Counting(Net):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def hidden(self, x: Tensor) -> Tensor:
        self.seen += self.training
        return super().hidden(x)


class CountingInState(Net):
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def hidden(self, x: Tensor) -> Tensor:
        self.seen += self.training
        return super().hidden(x)


class NeverCleared(torch.optim.SGD):
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Keeps them."""


def net(
    kind: Callable[..., nn.Module] = Net, *last: nn.Module, rate: str = "0.1", size: int = 16, **given: Any
) -> Case:
    return Case(model=lambda: kind(*last, **given), overrides=(f"optim.lr={rate}", f"loader.batch_size={size}"))


MODELS: dict[str, tuple[Case, Case]] = {
    "not-finite": (net(rate="1e38"), net()),
    "probabilities-before-loss": (net(Net, nn.Softmax(1)), net(Net, nn.Tanh())),
    "dead-relu": (net(bias=-100), net(bias=-0.1)),
    "no-gradient": (net(Detached), net()),
    "frozen": (net(Frozen), net()),
    "gradients-kept": (Case(optim=NeverCleared), Case()),
    "constant-output": (net(Blind), net()),
    "mode-left": (net(StaysInTraining, nn.Dropout(0.1)), net(Net, nn.Dropout(0.1))),
    "noise-in-evaluation": (net(NoisyAlways), net(NoisyInTraining)),
    "rows-mixed": (net(Centred), net(CentredRows)),
    "small-batch-norm": (net(Net, nn.BatchNorm1d(3), size=2), net(Net, nn.BatchNorm1d(3))),
    "dropout": (net(Net, nn.Dropout(0.95)), net(Net, nn.Dropout(0.5))),
    "update-too-large": (net(rate="1000"), net(rate="0.5")),
    "update-too-small": (net(rate="1e-6"), net(rate="0.01")),
    "cannot-overfit": (net(Blind), net()),
    "unsaved-state": (net(Counting), net(CountingInState)),
}


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Case, str], set[str]]:
    """The rules of a layer that find something in a case."""

    def find(case: Case, layer: str) -> set[str]:
        with monkeypatch.context() as patch:
            for registry in register:
                patch.setattr(registry, "_components", dict(registry._components))

            def case_rows() -> dict[str, Any]:
                return (case.rows or rows())()

            def case_model(spec: Any) -> nn.Module:
                if case.model is None:
                    return nn.Sequential(nn.Flatten(), nn.Linear(spec.features, spec.outputs))
                return case.model()

            def case_optim(params: Any, *, lr: float) -> Any:
                return case.optim(params, lr=lr)

            register.dataset("case_rows")(case_rows)
            register.model("case_model")(case_model)
            register.optim("case_optim")(case_optim)
            usual = ("dataset=synthetic", "tracking=none", "device=cpu", "device.threads=1", "loader.batch_size=16")
            root = check.configured([*usual, *case.overrides]).root
            optim = {"name": "case_optim", "lr": root.optim["lr"]}
            root = root.model_copy(
                update={"dataset": {"name": "case_rows"}, "model": {"name": "case_model"}, "optim": optim}
            )
            build.forget_dataset()
            with devices.settings_kept():
                prepared = preparation.prepare(root, [])
                splits = prepared.splits
                found = (
                    data.rule.findings(data.observe(prepared.runner(None), root, splits.spec, splits.class_counts))
                    if layer == "b"
                    else model.rule.findings(batch.observe(prepared))
                )
            build.forget_dataset()
            return {finding.rule for finding in found}

    return find


@pytest.mark.parametrize("name", history.rule.by_name)
def test_a_rule_over_the_journal_names_its_fault_and_is_silent_beside_it(name: str) -> None:
    faulty, healthy = ([finding.rule for finding in history.rule.findings(each)] for each in JOURNALS[name])
    assert name in faulty[:2]
    assert healthy == []


def test_a_loss_that_doubles_near_0_is_not_diverging() -> None:
    doubled = run([0.15, 0.04, 0.05, 0.001], [0.361, 0.095, 0.003, 0.14], untrained=1.5)
    assert [finding.rule for finding in history.rule.findings(doubled)] == []


@pytest.mark.parametrize("name", data.rule.by_name)
def test_a_rule_over_the_data_names_its_fault_and_is_silent_beside_it(
    name: str, observed: Callable[[Case, str], set[str]]
) -> None:
    faulty, healthy = (observed(case, "b") for case in DATA[name])
    assert name in faulty
    assert healthy == set()


@pytest.mark.parametrize("name", model.rule.by_name)
def test_a_rule_over_the_first_steps_names_its_fault_and_is_silent_beside_it(
    name: str, observed: Callable[[Case, str], set[str]]
) -> None:
    faulty, healthy = (observed(case, "c") for case in MODELS[name])
    assert name in faulty
    assert healthy == set()


@pytest.mark.parametrize("last", [nn.Softmax(0), nn.LogSoftmax(1), nn.LogSoftmax(0)])
def test_other_softmaxes_before_the_loss_are_named(last: nn.Module, observed: Callable[[Case, str], set[str]]) -> None:
    assert "probabilities-before-loss" in observed(net(Net, last), "c")


def test_a_warm_up_from_0_is_examined(
    observed: Callable[[Case, str], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "_rate", lambda runner: 0.0)
    assert observed(net(), "c") == set()


def test_a_dropout_that_is_no_module_is_named(observed: Callable[[Case, str], set[str]]) -> None:
    assert "dropout" in observed(net(MostlyDropped), "c")


def test_every_rule_has_a_section_of_the_docs_and_every_section_a_rule() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    sections = [line.removeprefix("### ") for line in text.splitlines() if line.startswith("### ")]
    names = {name for rules in LAYERS.values() for name in rules.by_name}
    assert len(sections) == len(set(sections))
    assert set(sections) == names
