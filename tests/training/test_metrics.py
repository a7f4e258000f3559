"""Metrics in a run: which are refused before it, and that those over a pass are of all its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor

import experiments
from experiments.config.check import configured
from experiments.config.registry import Component, register
from experiments.runs.evaluation import evaluate
from experiments.training.metrics import ShareOfPlaces

RUN = ["dataset=digits", "model=mlp", "device=cpu", "device.threads=1", "tracking=none", "figures=false", "epochs=1"]
Register = Callable[..., None]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Register:
    def add(factory: Any, **facts: Any) -> None:
        monkeypatch.setitem(register.metric._components, "mine", Component("metric", "mine", factory, facts))

    return add


def trained(tmp_path: Path, *overrides: str) -> Any:
    return experiments.run([*RUN, "~metrics", "+metrics={mine: {}}", *overrides, f"hydra.run.dir={tmp_path}/run"])


def refusal(tmp_path: Path) -> str:
    with pytest.raises(experiments.ConfigError) as caught:
        trained(tmp_path)
    return str(caught.value)


def sk_f1(pred: Tensor, target: Tensor) -> Any:
    return f1_score(target, pred.argmax(1), average="macro")


NO_SUMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "mean": lambda pred, target: (pred.argmax(1) == target).float().mean(),
    "float": lambda pred, target: (pred.argmax(1) == target).float().mean().item(),
    "root": lambda pred, target: pred.square().sum().sqrt(),
    "largest": lambda pred, target: pred.max(),
    "f1": sk_f1,
}


@pytest.mark.parametrize("name", NO_SUMS)
def test_a_metric_that_is_not_a_sum_is_refused_with_the_remedy(name: str, registered: Register, tmp_path: Path) -> None:
    registered(NO_SUMS[name])
    message = refusal(tmp_path)
    assert message.startswith("metrics.mine: mine is not a sum over rows: ")
    assert 'return a sum, which is divided by the rows, or register it with over="pass"' in message


SUMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "zero": lambda pred, target: torch.tensor(0),
    "rows": lambda pred, target: len(pred),
    "half precision": lambda pred, target: pred.bfloat16().abs().sum(),
    "of both signs": lambda pred, target: (pred - pred.flip(1)).sum(),
    "not finite": lambda pred, target: torch.tensor(float("nan")),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_is_not_refused(name: str, registered: Register, tmp_path: Path) -> None:
    registered(SUMS[name])
    assert "valid/mine" in trained(tmp_path).history[0]


def test_sklearns_f1_over_a_pass_is_that_of_all_rows(registered: Register, tmp_path: Path) -> None:
    registered(sk_f1, over="pass")
    result = trained(tmp_path, "loader.valid_batch_size=100")
    split = experiments.training.build.load_dataset({"name": "digits"}).valid
    with torch.inference_mode():
        pred = result.model(split.floats()[0])
    assert result.history[0]["valid/mine"] == f1_score(split.tensors[1], pred.argmax(1), average="macro")
    assert evaluate(result)["valid/mine"] == result.history[0]["valid/mine"]


def test_one_that_cannot_take_a_single_batch_gets_all(registered: Register, tmp_path: Path) -> None:
    """A batch of three rows lacks classes."""
    registered(lambda pred, target: roc_auc_score(target, pred.softmax(1), multi_class="ovr"), over="pass")
    assert trained(tmp_path, "loader.valid_batch_size=3").history[0]["valid/mine"] > 0.5


def test_one_that_never_works_is_refused(registered: Register, tmp_path: Path) -> None:
    registered(lambda pred, target: pred["logits"], over="pass")
    assert refusal(tmp_path).startswith("metrics.mine: mine cannot take predictions (128, 10), targets (128,): ")


class Right:
    """A metric as a newcomer writes it."""

    def __init__(self) -> None:
        self.right = self.rows = 0

    def update(self, pred: Tensor, target: Tensor) -> None:
        self.right += int((pred.argmax(1) == target).sum())
        self.rows += len(target)

    def compute(self) -> float:
        return self.right / self.rows


class Resumable(Right):
    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def test_an_own_object_is_updated_in_a_pass(registered: Register, tmp_path: Path) -> None:
    registered(Resumable, over="pass")
    figures = trained(tmp_path, "+metrics.accuracy={}").history[0]
    assert figures["valid/mine"] == figures["valid/accuracy"]
    assert figures["train/mine"] == figures["train/accuracy"]


def test_an_object_without_a_state_is_refused(registered: Register, tmp_path: Path) -> None:
    registered(Right, over="pass")
    expected = "metrics.mine: Right must define state_dict() and load_state_dict() to be resumable"
    assert refusal(tmp_path) == expected


def test_accuracy_of_labels_of_places_is_a_share_of_those_that_are_not_left_out() -> None:
    pred, target = torch.randn(6, 3, 4, 4), torch.randint(3, (6, 4, 4))
    target[torch.rand(6, 4, 4) < 0.5] = -100
    first, second = (ShareOfPlaces(register.metric.bind("accuracy", {}), list) for _ in range(2))
    first.update(pred[:4], target[:4])
    second.load_state_dict(first.state_dict())
    second.update(pred[4:], target[4:])
    known = target != -100
    expected = (pred.argmax(1) == target)[known].float().mean()
    assert second.compute() == pytest.approx(float(expected), rel=1e-6)


def test_those_without_a_file_are_options_with_their_settings() -> None:
    chosen = configured(["dataset=digits", "metrics=[accuracy,f1,auroc]", "metrics.f1.average=micro"]).root.metrics
    assert chosen["f1"] == {"average": "micro", "logits": True, "ignore_index": None}
    assert list(chosen) == ["accuracy", "f1", "auroc"]
