"""The check of what a loss returns."""

from __future__ import annotations

import pytest
import torch

from experiments import ranks
from experiments.errors import ConfigError
from experiments.training.losses import require_mean


@pytest.mark.parametrize("rows", [1, 2])
def test_processes_refuse_a_loss_that_returns_its_weight(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "world", lambda: 2)
    with pytest.raises(ConfigError, match="mine returns its weight, which processes do not share; train in one"):
        require_mean(lambda pred, _: (pred.sum(), len(pred)), torch.ones(rows, 3), torch.zeros(rows), "mine")
