"""A step of several batches, against one as many times as large."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses

from experiments.config.check import configured
from experiments.errors import ConfigError
from experiments.training.runner import weights_of
from tests.support.resuming import different, maker
from tests.support.training import (
    one_thread,  # noqa: F401  # a fixture of every test here
    same,
)

PLAIN = ("model=mlp", "model.width=6", "transforms=none", "loader.batch_size=3")  # 20 rows: 7 batches


def test_a_step_has_the_weights_of_a_plain_loop_over_its_batches_bit_for_bit() -> None:
    make = maker("accumulate=2", model=PLAIN)
    runner, twin = make(), make()
    optimizer = torch.optim.SGD(twin.model.parameters(), lr=0.5, fused=True)
    total, steps = 0.0, 0
    for xs, ys in twin.train.epoch(0):
        for xb, yb in zip(xs.split(3), ys.split(3), strict=True):
            loss = F.cross_entropy(twin.model(xb), yb) * (len(xb) / len(xs))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item() * len(xs)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    means, rows = runner.train_epoch(0)
    assert same(weights_of(runner.model), weights_of(twin.model))
    assert (rows, steps, runner.steps) == (20, 4, 4)
    assert means["loss"] == pytest.approx(total / 20, abs=1e-7)


@pytest.mark.parametrize("drop_last", ["true", "false"])
def test_it_trains_as_a_batch_as_many_times_as_large(drop_last: str) -> None:
    settings = (*PLAIN[:-1], f"loader.drop_last={drop_last}")
    one = maker("accumulate=3", model=(*settings, "loader.batch_size=3"))()
    other = maker(model=(*settings, "loader.batch_size=9"))()
    assert one.steps == other.steps
    figures, expected = one.run_epoch(0), other.run_epoch(0)
    for name in ("train/loss", "train/accuracy", "valid/loss", "valid/accuracy"):
        assert figures[name] == pytest.approx(expected[name], abs=1e-6)


def test_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    assert different(maker("accumulate=2", "scheduler=one_cycle", "loader.batch_size=4"), tmp_path) == []


def test_lbfgs_takes_several_batches_as_one() -> None:
    settings = ("optim=lbfgs", "optim.max_iter=3")
    one, other = (
        maker(*settings, "accumulate=7", model=PLAIN)(),
        maker(*settings, model=(*PLAIN[:-1], "loader.batch_size=20"))(),
    )
    assert one.run_epoch(0)["valid/loss"] == pytest.approx(other.run_epoch(0)["valid/loss"], abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "key"),
    [(["accumulate=2", "limit_batches=3"], "limit_batches"), (["accumulate=2", "device.graph=true"], "accumulate")],
)
def test_what_several_batches_do_not_go_with_is_refused(settings: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: "):
        configured(settings)
