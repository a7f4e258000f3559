"""What is shown at the end of a run of the trained model's predictions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import experiments
from experiments.components.datasets.digits import digits
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here


@pytest.mark.parametrize("lr", ["1e-9", "0.5"])
def test_a_class_that_is_never_predicted_is_named(lr: str, workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = experiments.run(
        ["dataset=digits", "model=mlp", "model.depth=3", "epochs=1", f"optim.lr={lr}", "tracking=none"]
    )
    x, _ = digits().valid.floats()
    with torch.no_grad():
        never = sorted(set(range(10)) - set(result.model(x).argmax(1).tolist()))
    warned = [each.message for each in caplog.records if "never predicts" in each.message]
    assert never or lr != "1e-9"  # an untrained network of that depth predicts few of them
    assert [message.rpartition(": ")[2] for message in warned] == ([", ".join(map(str, never))] if never else [])
