"""Averaged weights against torch's own AveragedModel, and mixed rows against plain arithmetic."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn, update_bn

from experiments.components.callbacks import EarlyStopping, Ema, Swa
from experiments.components.transforms import cutmix, mixup
from experiments.data.splits import DataSpec
from experiments.training.callback import Callback
from experiments.training.runner import weights_of
from tests.support.training import STEPS, make, one_thread, plain_batches, same  # noqa: F401  # a fixture of every test

SPEC = DataSpec(name="some", shape=(1, 5, 4), outputs=3, classes=True, sizes={}, digest="")
X, Y = torch.rand(6, 20, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])


class Reference(Callback):
    """Averages as torch's own example does, beside the callback."""

    def __init__(self, average: AveragedModel, every: int, first: int | None = None) -> None:
        self.average, self.every, self.first = average, every, every if first is None else first

    def on_step_end(self, runner: object, step: int) -> None:
        if (step + 1) % self.every == 0 and step >= self.first:
            self.average.update_parameters(runner.model)  # type: ignore[attr-defined]


def normed() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def test_ema_ends_with_the_weights_of_torchs_averaged_model() -> None:
    runner = make(callbacks=[Ema(decay=0.9, warmup=False)])
    reference = AveragedModel(copy.deepcopy(runner.model), multi_avg_fn=get_ema_multi_avg_fn(0.9))  # type: ignore[no-untyped-call]
    reference.n_averaged += 1  # it starts from the initial weights, as the callback does
    plain = make(callbacks=[Reference(reference, 1, first=0)])
    runner.fit(2)
    plain.fit(2)
    assert same(weights_of(runner.model), weights_of(reference.module))


def test_swa_ends_with_the_mean_of_epochs_and_its_own_statistics() -> None:
    runner, plain = make(model=normed(), callbacks=[Swa(start=1)]), make(model=normed())
    reference = AveragedModel(plain.model, multi_avg_fn=get_swa_multi_avg_fn())  # type: ignore[no-untyped-call]
    plain.callbacks = [Reference(reference, STEPS)]
    runner.fit(3)
    plain.fit(3)
    update_bn(((xb,) for xb, _ in plain_batches(0)), reference)
    assert same(weights_of(runner.model), weights_of(reference.module))


def test_validation_is_that_of_the_average_and_training_is_as_without() -> None:
    runner, plain = make(callbacks=[Ema(decay=0.5)]), make()
    runner.fit(2)
    plain.fit(2)
    assert [h["train/loss"] for h in runner.history] == [h["train/loss"] for h in plain.history]
    assert runner.history[-1]["valid/loss"] == runner.evaluate(1)["loss"] != plain.history[-1]["valid/loss"]


def test_statistics_for_the_mean_of_the_weights_draw_no_noise_from_the_training() -> None:
    def losses(*callbacks: Any) -> list[float]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
        runner = make(model=model, callbacks=callbacks)
        return [figures["train/loss"] for figures in runner.fit(3).history]

    assert losses(Swa(start=0)) == losses()


def test_both_are_evaluated_where_that_is_chosen() -> None:
    runner, averaged, plain = make(callbacks=[Ema(evaluation="both")]), make(callbacks=[Ema()]), make()
    for each in (runner, averaged, plain):
        each.fit(1)
    assert runner.history[0]["valid/loss"] == plain.history[0]["valid/loss"]
    assert runner.history[0]["ema/valid_loss"] == averaged.history[0]["valid/loss"]
    assert same(weights_of(runner.model), weights_of(plain.model))


def test_early_stopping_restores_the_best_average() -> None:
    for callbacks in ([Ema(decay=0.5), EarlyStopping(patience=1)], [EarlyStopping(patience=1), Ema(decay=0.5)]):
        runner = make(lambda params: torch.optim.SGD(params, lr=5.0), callbacks=callbacks)
        runner.fit(6)
        best = min(figures["valid/loss"] for figures in runner.history)
        assert runner.history[-1]["valid/loss"] > best
        runner.callbacks = []
        assert runner.evaluate(0)["loss"] == best


def test_mixup_blends_rows_and_targets_by_one_share() -> None:
    torch.manual_seed(1)
    mixed, target = mixup(X, Y, SPEC, alpha=1.0)
    torch.manual_seed(1)
    share, order = torch.distributions.Beta(torch.tensor(1.0), torch.tensor(1.0)).sample(), torch.randperm(6)
    labels = F.one_hot(Y, 3).float()
    torch.testing.assert_close(mixed, share * X + (1 - share) * X[order])
    torch.testing.assert_close(target, share * labels + (1 - share) * labels[order])


def test_cutmix_takes_one_box_and_its_share_of_the_target() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, target = cutmix(X, Y, SPEC)
        pixels = (mixed == X).view(6, 5, 4)
        other = ~pixels.all(0)
        rows, columns = other.any(1), other.any(0)
        assert torch.equal(other, rows[:, None] & columns[None, :])  # a box
        share = other.float().mean()
        labels = F.one_hot(Y, 3).float()
        kept = (target - (1 - share) * labels).abs().sum(1)
        torch.testing.assert_close(kept, share.expand(6), atol=1e-5, rtol=0)
        torch.testing.assert_close(target.sum(1), torch.ones(6))
