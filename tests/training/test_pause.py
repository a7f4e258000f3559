"""`pause_after`: a training that ends before its last epoch, to be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import experiments
from experiments import api
from experiments.runs.find import run_in

RUN = ["dataset=digits", "model=mlp", "limit_batches=3", "epochs=4", "tracking=none", "figures=false", "optim.lr=0.1"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "weights.pt", weights_only=True)
    return found


@pytest.mark.parametrize(
    "settings", [[], ["scheduler=one_cycle"], ["checkpoint.every_epochs=null"], ["callbacks=early_stopping"]]
)
def test_a_paused_run_that_is_resumed_is_the_straight_run(settings: list[str], workplace: Path) -> None:
    whole = experiments.run([*RUN, *settings])
    first = experiments.run([*RUN, *settings, "pause_after=2"])
    assert first.paused and len(first.history) == 2 and first.folder is not None
    assert run_in(first.folder).status == "PAUSED"
    second = api.resume(first.folder)
    assert not second.paused and whole.folder is not None
    assert [epoch["valid/loss"] for epoch in second.history] == [epoch["valid/loss"] for epoch in whole.history]
    ends = weights(first.folder), weights(whole.folder)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1])


def test_it_may_be_paused_again(workplace: Path) -> None:
    first = experiments.run([*RUN, "pause_after=1"])
    assert first.folder is not None
    assert len(api.resume(first.folder, ["pause_after=3"]).history) == 3
    assert len(api.resume(first.folder, ["pause_after=3"]).history) == 3
    assert run_in(first.folder).status == "PAUSED"
    assert len(api.resume(first.folder).history) == 4


def test_a_training_that_ends_there_is_not_paused(workplace: Path) -> None:
    result = experiments.run([*RUN, "pause_after=4"])
    assert not result.paused and result.folder is not None and run_in(result.folder).status == "FINISHED"


def test_a_paused_run_is_the_same_run_as_a_straight_one(workplace: Path) -> None:
    folders = [experiments.run([*RUN, *more]).folder for more in ([], ["pause_after=2"])]
    keys = {run_in(folder).run_key for folder in folders if folder is not None}
    assert len(keys) == 1


def test_a_paused_run_is_not_reused(workplace: Path) -> None:
    paused = experiments.run([*RUN, "pause_after=2"])
    assert experiments.run([*RUN, "reuse=finished"]).folder != paused.folder


def test_the_weights_of_a_paused_run_can_be_read(workplace: Path) -> None:
    paused = experiments.run([*RUN, "pause_after=2"])
    assert experiments.load(paused)(torch.zeros(1, 64)).shape == (1, 10)
