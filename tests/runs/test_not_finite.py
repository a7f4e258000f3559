"""A training whose loss or metric becomes NaN or infinite: it is finished, and says so wherever it is seen."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

import experiments
from experiments.tracking import record
from experiments.tracking.record import Ended
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

DIVERGING = ["dataset=digits", "model=mlp", "model.depth=6", "optim.lr=100", "limit_batches=4", "epochs=1"]
QUIET = ["tracking=none", "figures=false", "hydra.run.dir=run"]


def end(folder: Path) -> Ended:
    return [event for event, _ in record.events(folder) if isinstance(event, Ended)][-1]


def test_a_loss_that_is_nan_is_warned_of_and_no_epoch_is_called_the_best(
    workplace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = experiments.run([*DIVERGING, *QUIET])
    assert math.isnan(result.best_valid_loss)
    warned = [each.message for each in caplog.records if each.levelno == logging.WARNING]
    assert warned == [
        "epoch 0: not finite: valid/loss (a lower optim.lr or max_grad_norm=1.0 may help)",
        "doctor: not-finite: valid/loss is nan in epoch 0 (try optim.lr=10, or max_grad_norm=1.0)",
    ]
    assert "best valid/loss" not in caplog.text
    found = end(workplace / "run")
    assert (found.status, found.tags["experiments.not_finite"]) == ("FINISHED", "valid/loss is nan in epoch 0")
    assert found.tags["experiments.doctor"] == "not-finite"
    assert "valid/loss is nan in epoch 0" in found.note


def test_a_finite_training_has_no_such_tag(workplace: Path) -> None:
    experiments.run(["dataset=digits", "epochs=1", "limit_batches=4", *QUIET])
    assert (end(workplace / "run").note, end(workplace / "run").tags) == ("", {})
