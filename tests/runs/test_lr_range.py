"""The learning rate range test: its losses are a plain loop's, and a training with one is the training without."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses

from experiments.config.registry import Component, register
from experiments.errors import ConfigError, TrainingError
from experiments.runs.lr_range import growing, lr_range
from experiments.seeds import Seeds
from experiments.training import build
from experiments.training.callback import Callback
from experiments.training.runner import Runner, weights_of
from experiments.training.step import ClosureStep
from tests.support.resuming import SMALL, alike, checked, maker, outcome, undisturbed
from tests.support.training import (
    fresh_model,
    make,
    on_a_device,
    one_thread,  # noqa: F401  # a fixture of every test here
    plain_batches,
    replace_loss,
    same,
)

RATES = growing(1e-3, 3.0, 12)


class RangeAt(Callback):
    """Runs a range test at one point of a training, and keeps the weights around it."""

    def __init__(self, hook: str, at: int) -> None:
        self.hook, self.at, self.seen = hook, at, list[float]()

    def on_step_end(self, runner: Any, step: int) -> None:
        self._at("step", runner, step)

    def on_epoch_end(self, runner: Any, epoch: int, figures: Any) -> None:
        self._at("epoch", runner, epoch)

    def _at(self, hook: str, runner: Any, number: int) -> None:
        if (hook, number) == (self.hook, self.at):
            self.seen += lr_range(runner, RATES).losses


def disturbed(made: Callable[[], Runner], hook: str, at: int, epochs: int = 2) -> dict[str, Any]:
    """What a training comes to with a range test there; before it for the hook `start`."""
    runner, testing = made(), RangeAt(hook, at)
    if hook == "start":
        testing.seen += lr_range(runner, RATES).losses
    else:
        runner.callbacks = [*runner.callbacks, testing]
    runner.fit(epochs)
    assert len(set(testing.seen)) > 4
    runner.callbacks = [callback for callback in runner.callbacks if callback is not testing]
    return outcome(runner)


@pytest.fixture
def normed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Runner]:
    """Makes a training with dropout, batch norm, a random shift and Adam."""

    def net(data: Any) -> nn.Module:
        layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)]
        return nn.Sequential(*layers, nn.Linear(4 * data.features, data.outputs))

    monkeypatch.setitem(register.model._components, "mine", Component("model", "mine", net, {"input": "image"}))
    root = checked("optim=adam", "max_grad_norm=1.0").model_copy(update={"model": {"name": "mine"}})

    def made() -> Runner:
        streams = Seeds(0, 1, 2)
        model, device = build.build_model(root, SMALL.spec, streams), torch.device("cpu")
        return build.assemble(root, splits=SMALL, model=model, device=device, seeds=streams, folder=None)

    return made


WHERE = [("start", 0), ("step", 1), ("step", 2), ("step", 4), ("epoch", 0)]  # an epoch has three steps


@pytest.mark.parametrize(("hook", "at"), WHERE)
def test_a_training_with_one_is_that_without_bit_for_bit(normed: Callable[[], Runner], hook: str, at: int) -> None:
    assert alike(disturbed(normed, hook, at), undisturbed(normed))


@pytest.mark.parametrize("hook", ["start", "step"])
@pytest.mark.parametrize("optim", register.optim.names)
def test_so_it_is_with_every_optimiser(optim: str, hook: str) -> None:
    momentum = {"sgd": ["optim.momentum=0.9"], "lbfgs": ["optim.max_iter=2"]}.get(optim, [])
    made = maker(f"optim={optim}", *momentum)
    assert alike(disturbed(made, hook, 3), undisturbed(made))


@pytest.mark.parametrize("loader", register.loader.names)
def test_so_it_is_with_every_loader_within_an_epoch(loader: str) -> None:
    made = maker(f"loader={loader}")
    assert alike(disturbed(made, "step", 1), undisturbed(made))


@pytest.mark.parametrize(
    "setting", ["scheduler=one_cycle", "callbacks=ema", "accumulate=2", "device.precision=bf16", "transforms=mixup"]
)
def test_so_it_is_with(setting: str) -> None:
    made = maker(setting)
    assert alike(disturbed(made, "step", 3), undisturbed(made))


@pytest.mark.parametrize("device", [lambda runner: runner, on_a_device], ids=["cpu", "as an accelerator"])
def test_so_it_is_after_a_loss_that_is_not_finite(device: Callable[[Runner], Runner]) -> None:
    def made() -> Runner:
        return device(make())

    runner, calls = made(), [0]

    def loss(pred: Tensor, target: Tensor) -> Tensor:
        calls[0] += 1
        return F.cross_entropy(pred, target) * (math.nan if calls[0] == 4 else 1)

    replace_loss(runner, loss)
    if device is on_a_device:
        runner.step.update.waits = True
    found = lr_range(runner, RATES)
    assert (len(found.losses), found.rates) == (3, tuple(RATES[:3])) and "not finite at step 3" in found.stopped
    runner.fit(2)
    straight = made()
    straight.fit(2)
    assert same(weights_of(runner.model), weights_of(straight.model))


def test_the_losses_are_a_plain_loops() -> None:
    model, losses = fresh_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rates = [1e-3 * 3000 ** (i / 11) for i in range(12)]
    batches = [*plain_batches(0), *plain_batches(1)]
    for rate, (xb, yb) in zip(rates, batches, strict=False):
        optimizer.param_groups[0]["lr"] = rate
        loss = F.cross_entropy(model(xb.view(-1, 16)), yb)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    found = lr_range(make(), RATES)
    assert found.rates == pytest.approx(rates, rel=1e-12)
    assert found.losses == pytest.approx(losses, rel=1e-5)


def test_the_smoothed_loss_is_the_weighted_mean_of_those_so_far() -> None:
    found = lr_range(make(), RATES)
    for last, smoothed in enumerate(found.smoothed):
        weights = 0.9 ** np.arange(last, -1, -1)
        assert smoothed == pytest.approx(np.average(found.losses[: last + 1], weights=weights), rel=1e-9)


def test_the_suggestion_is_the_steepest_of_the_differences_before_the_best() -> None:
    found = lr_range(maker("optim=adam", "model.dropout=0.0", "transforms=none")(), growing(1e-4, 10, 60))
    s = found.smoothed
    best = s.index(min(s))
    falls = {i: s[i - 1] - s[i + 1] for i in range(6, best)}
    assert best > 20
    assert found.suggested == found.rates[max(falls, key=falls.__getitem__)]


def test_a_steeper_fall_after_the_best_is_not_suggested() -> None:
    values = [*[2.0] * 10, *np.linspace(2, 1, 20), *np.linspace(1, 3.5, 10), *[1.1] * 10]
    runner, given = make(), iter(values)
    replace_loss(runner, lambda pred, target: pred.sum() * 0 + float(next(given)))
    found = lr_range(runner, rates := growing(1e-3, 1.0, 50))
    assert found.suggested is not None and rates[10] < found.suggested < rates[30]


def test_a_callback_that_hooked_in_is_as_before() -> None:
    class Counts(Callback):
        steps = 0

        def on_begin(self, runner: Any) -> None:
            runner.optimizer.register_step_pre_hook(lambda *_: setattr(self, "steps", self.steps + 1))

        def state_dict(self) -> dict[str, Any]:
            return {"steps": self.steps}

        def load_state_dict(self, state: Any) -> None:
            self.steps = state["steps"]

    def made() -> Runner:
        return make(callbacks=[Counts()])

    assert alike(disturbed(made, "step", 3), undisturbed(made))


def test_the_order_of_the_rows_is_as_before() -> None:
    runner = make()
    before = runner.train.order.indices()
    lr_range(runner, RATES)
    assert alike(runner.train.order.indices(), before)


def test_a_loss_that_does_not_fall_suggests_nothing() -> None:
    assert lr_range(make(), growing(1e-7, 1e-6, 40)).suggested is None


def test_it_stops_where_the_smoothed_loss_exceeds_four_times_its_best() -> None:
    found = lr_range(make(), growing(1e-3, 1e4, 60))
    assert len(found.losses) < 60 and "4 times" in found.stopped
    assert found.smoothed[-1] > 4 * min(found.smoothed)
    assert all(one <= 4 * min(found.smoothed[: i + 1]) for i, one in enumerate(found.smoothed[:-1]))


def test_a_negative_loss_is_no_multiple() -> None:
    runner = make()
    replace_loss(runner, lambda pred, target: F.cross_entropy(pred, target) - 3)
    assert lr_range(runner, growing(1e-6, 1e-3, 20)).stopped == ""


def test_groups_keep_their_ratio_to_the_first() -> None:
    runner = maker("optim.groups={*.bias: {lr: 0.2}}", "optim.lr=0.5")()
    seen: list[list[float]] = []
    runner.optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append([group["lr"] for group in optimizer.param_groups])
    )
    found = lr_range(runner, RATES)
    assert [first for first, _ in seen] == list(found.rates)
    assert [other / first for first, other in seen] == pytest.approx([2.5] * len(seen))
    assert [group["lr"] for group in runner.optimizer.param_groups] == [0.2, 0.5]


def test_a_first_loss_that_is_not_finite_is_an_error() -> None:
    runner = make()
    replace_loss(runner, lambda pred, target: pred.sum() * math.nan)
    with pytest.raises(TrainingError, match="not finite at step 0"):
        lr_range(runner, RATES)


def test_an_optimiser_without_a_rate_is_refused_by_name() -> None:
    class Rateless:
        def step(self) -> None: ...

        def zero_grad(self) -> None: ...

    with pytest.raises(ConfigError, match="Rateless has no rate above 0"):
        lr_range(make(optimizer=Rateless()), RATES)


def test_another_kind_of_step_is_refused_by_name() -> None:
    class Other(ClosureStep): ...

    runner = make()
    runner.step = Other(runner.step.forward, runner.step.update)
    with pytest.raises(ConfigError, match="Other takes no rate"):
        lr_range(runner, RATES)


@pytest.mark.parametrize(
    ("low", "high", "steps", "told"),
    [
        (-1.0, 1.0, 20, "0 < from < to"),
        (0.0, 1.0, 20, "0 < from < to"),
        (1.0, 1.0, 20, "0 < from < to"),
        (2.0, 1.0, 20, "2 and 1 are given"),
        (1.0, math.inf, 20, "0 < from < to"),
        (math.nan, 1.0, 20, "0 < from < to"),
        (1e-3, 1.0, 0, "0 is given; expected at least 10"),
    ],
)
def test_rates_that_cannot_be_tested_are_refused(low: float, high: float, steps: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        growing(low, high, steps)
