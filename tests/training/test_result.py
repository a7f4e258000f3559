"""The result of a training: the best epoch, and which metrics are NaN or infinite."""

from __future__ import annotations

import math

import pytest

from experiments.training.result import Result, lowest, not_finite

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("losses", "best"),
    [([NAN, 0.5, 0.3], 0.3), ([INF, 0.5], 0.5), ([NAN, INF], INF), ([-INF, 0.5], 0.5), ([0.5, NAN], 0.5)],
)
def test_the_lowest_loss_is_a_finite_one_where_there_is_one(losses: list[float], best: float) -> None:
    assert lowest(losses) == best
    history = [{"valid/loss": loss} for loss in losses]
    assert Result(None, {}, history).best_valid_loss == best


def test_the_lowest_of_nan_alone_is_nan() -> None:
    assert math.isnan(lowest([NAN, NAN]))


def test_each_metric_that_is_not_finite_is_named_with_its_first_epoch() -> None:
    history = [
        {"train/loss": 1.0, "valid/loss": 1.0, "mine": INF, "best/valid_loss": 1.0},
        {"train/loss": 1.0, "valid/loss": NAN, "mine": NAN, "best/valid_loss": 1.0},
        {"train/loss": 1.0, "valid/loss": NAN, "mine": 2.0, "best/valid_loss": NAN},
    ]
    assert not_finite(history) == {"mine": "mine is inf in epoch 0", "valid/loss": "valid/loss is nan in epoch 1"}
    assert not_finite(history[:1][:0]) == {}
