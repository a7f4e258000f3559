"""What is kept for a run's plots, and what it shows at the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import experiments
from experiments.config.registry import Component, register
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

RUN = ["dataset=digits", "epochs=1", "limit_batches=4", "tracking=none", "optim.lr=0.1"]


class Dead(nn.Module):
    """A linear model whose last output is always the lowest."""

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.linear, self.outputs = nn.Linear(data.features, data.outputs), data.outputs

    def forward(self, xb: Tensor) -> Tensor:
        alive: Tensor = self.linear(xb.flatten(1)).relu()
        return alive - 100 * torch.eye(self.outputs)[-1]


def test_a_class_that_is_never_predicted_is_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(register.model._components, "logistic", Component("model", "logistic", Dead, {}))
    experiments.run(RUN)
    (warned,) = [each.message for each in caplog.records if "never predicts" in each.message]
    assert warned.endswith(" 9")
