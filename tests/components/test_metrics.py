"""The metrics over a pass, updated in batches, against sklearn over all rows."""

from __future__ import annotations

import functools
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses

import experiments
from experiments import components
from experiments.config.registry import register
from experiments.data.splits import DataSpec

assert components
GENERATOR = torch.Generator().manual_seed(0)
ROWS = 300


def spec(outputs: int, *, classes: bool) -> DataSpec:
    return DataSpec("d", (1, 2, 2), outputs, classes, {"train": 1}, "")


def value(name: str, data: DataSpec, pred: Tensor, target: Tensor, **settings: Any) -> float:
    bound = register.metric.bind(name, settings)
    made = functools.partial(bound, data)() if register.metric.passed_to(register.metric.get(name)) else bound()
    for part in range(0, len(pred), 64):
        made.update(pred[part : part + 64], target[part : part + 64])
    return float(made.compute())


LOGITS, LABELS = torch.randn(ROWS, 4, generator=GENERATOR), torch.randint(4, (ROWS,), generator=GENERATOR)
GUESS = LOGITS.argmax(1)
SKLEARN = {
    "f1": functools.partial(metrics.f1_score, average="macro"),
    "precision": functools.partial(metrics.precision_score, average="macro"),
    "recall": functools.partial(metrics.recall_score, average="macro"),
    "iou": functools.partial(metrics.jaccard_score, average="macro"),
}


@pytest.mark.parametrize("name", SKLEARN)
def test_of_classes(name: str) -> None:
    assert value(name, spec(4, classes=True), LOGITS, LABELS) == pytest.approx(SKLEARN[name](LABELS, GUESS), rel=1e-6)


def test_of_labels_of_places() -> None:
    pred, target = LOGITS.view(3, 10, 10, 4).movedim(-1, 1), LABELS.view(3, 10, 10)
    expected = metrics.jaccard_score(LABELS, GUESS, average="macro")
    assert value("iou", spec(4, classes=True), pred, target) == pytest.approx(expected, rel=1e-6)


def test_of_the_second_of_two_classes() -> None:
    pred, target = LOGITS[:, :2], LABELS % 2
    expected = metrics.f1_score(target, pred.argmax(1))
    assert value("f1", spec(2, classes=True), pred, target, average="binary") == pytest.approx(expected, rel=1e-6)


def test_of_several_labels_where_all_logits_are_between_0_and_1() -> None:
    """Which are no probabilities for that."""
    pred, target = (
        torch.rand(ROWS, 3, generator=GENERATOR) - 0.2,
        (torch.rand(ROWS, 3, generator=GENERATOR) > 0.5).float(),
    )
    expected = metrics.f1_score(target, pred > 0, average="macro")
    assert value("f1", spec(3, classes=False), pred, target) == pytest.approx(expected, rel=1e-6)


def test_the_area_under_the_curve() -> None:
    expected = metrics.roc_auc_score(LABELS, LOGITS.softmax(1), multi_class="ovr")
    assert value("auroc", spec(4, classes=True), LOGITS, LABELS) == pytest.approx(expected, rel=1e-5)


def test_r2_of_large_numbers() -> None:
    target = 2000 + torch.rand(ROWS, 1, generator=GENERATOR)
    pred = target + 0.1 * torch.randn(ROWS, 1, generator=GENERATOR)
    expected = metrics.r2_score(target.double(), pred.double())
    assert value("r2", spec(1, classes=False), pred, target) == pytest.approx(expected, rel=1e-9)


def test_perplexity() -> None:
    expected = math.exp(F.cross_entropy(LOGITS, LABELS).item())
    pred, target = LOGITS.view(10, 30, 4).movedim(-1, 1), LABELS.view(10, 30)
    assert value("perplexity", spec(4, classes=True), pred, target) == pytest.approx(expected, rel=1e-5)


def test_real_targets_are_not_labels() -> None:
    with pytest.raises(ValueError, match="real numbers, not 0 and 1"):
        value("f1", spec(1, classes=False), torch.randn(4, 1), torch.randn(4, 1))


def test_without_torchmetrics_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    with pytest.raises(experiments.ConfigError, match=r"pip install 'experiments\[metrics\]'"):
        value("f1", spec(4, classes=True), LOGITS, LABELS)


def test_an_own_metric_may_have_the_name_of_a_shipped_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(register.metric, "_components", dict(register.metric._components))
    shipped = register.metric.get("f1")
    own = register.metric("f1")(lambda pred, target: np.float32(0))
    register.metric("f1", **shipped.metadata)(shipped.factory)  # imported after it
    assert register.metric.get("f1").factory is own
