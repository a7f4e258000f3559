"""What ends a training or halts it: what is not finite, on the CPU and masked on a device; and the debugger."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable
from functools import partial
from multiprocessing import Pipe
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses

from experiments.components.optimizers import by_hand
from experiments.errors import TrainingError
from experiments.training.result import Metrics, Result
from experiments.training.runner import Runner, weights_of
from experiments.training.signals import StopRequest, workers_watched
from tests.support.training import (
    BATCH,
    STEPS,
    make,
    on_a_device,
    one_thread,  # noqa: F401  # a fixture of every test here
    plain_batches,
    same,
)

Optim = Callable[[Iterable[Tensor]], Any]
BAD = STEPS + 2  # the third step of the second epoch

OPTIMS: dict[str, Optim] = {
    "by hand": partial(by_hand, lr=0.5),
    "sgd": partial(torch.optim.SGD, lr=0.1, foreach=False),
    "sgd with momentum and decay": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1),
    "fused sgd": partial(torch.optim.SGD, lr=0.1, fused=True),
    "fused sgd with momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=True),
    "adam": partial(torch.optim.Adam, lr=0.01),
    "fused adam": partial(torch.optim.Adam, lr=0.01, fused=True),
    "fused adamw": partial(torch.optim.AdamW, lr=0.01, fused=True),
}


class LossGoneBad:
    """Cross-entropy, and from training step `at` to `until` something else."""

    def __init__(self, kind: str, at: int = BAD, until: int | None = None) -> None:
        self.kind, self.at, self.until, self.step = kind, at, at if until is None else until, -1

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        loss = F.cross_entropy(pred, target)
        if not pred.requires_grad:
            return loss
        self.step += 1
        if not self.at <= self.step <= self.until:
            return loss
        if self.kind == "gradient":  # sqrt has an infinite slope at 0, and the value 0
            return loss + (pred - pred.detach()).abs().sum().sqrt()
        return loss * float(self.kind)


def weights_before(optim: Optim | None, steps: int) -> dict[str, Tensor]:
    """The weights after so many steps of a plain loop."""
    runner = make(optim)
    for number in range(steps):
        epoch, batch = divmod(number, STEPS)
        xb, yb = plain_batches(epoch)[batch]
        F.cross_entropy(runner.model(xb), yb).backward()  # type: ignore[no-untyped-call]
        runner.optimizer.step()
        runner.optimizer.zero_grad()
    return weights_of(runner.model)


def stop(runner: Runner, epochs: int = 3) -> str:
    with pytest.raises(TrainingError) as caught:
        runner.fit(epochs)
    return str(caught.value)


def test_the_gradient_gone_bad_has_a_finite_loss() -> None:
    pred = torch.zeros(2, 3, requires_grad=True)
    loss = LossGoneBad("gradient", at=0)(pred, torch.tensor([0, 1]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite() and pred.grad is not None and not pred.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("max_grad_norm", [None, 1e9])
def test_what_is_not_finite_stops_naming_step_epoch_and_batch(kind: str, max_grad_norm: float | None) -> None:
    text = stop(make(loss=LossGoneBad(kind), max_grad_norm=max_grad_norm))
    expected = f"the loss or a gradient is not finite at step {BAD} (epoch 1, batch 2); that update was not applied"
    assert text == expected


@pytest.mark.parametrize("kind", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("optim", OPTIMS.values(), ids=OPTIMS)
def test_on_the_cpu_the_weights_are_those_before_the_bad_step(kind: str, optim: Optim) -> None:
    runner = make(optim, loss=LossGoneBad(kind))
    stop(runner)
    assert same(weights_of(runner.model), weights_before(optim, BAD))


@pytest.mark.parametrize("kind", ["nan", "gradient"])
@pytest.mark.parametrize("optim", OPTIMS.values(), ids=OPTIMS)
def test_on_a_device_the_weights_are_those_before_the_bad_step(kind: str, optim: Optim) -> None:
    runner = on_a_device(make(optim, loss=LossGoneBad(kind)))
    stop(runner)
    assert same(weights_of(runner.model), weights_before(optim, BAD))


@pytest.mark.parametrize("optim", OPTIMS.values(), ids=OPTIMS)
def test_on_a_device_a_bad_first_step_leaves_the_initial_weights(optim: Optim) -> None:
    runner = on_a_device(make(optim, loss=LossGoneBad("nan", at=0)))
    stop(runner)
    assert same(weights_of(runner.model), weights_of(make().model))


def test_on_a_device_the_first_of_several_bad_steps_is_told_at_the_epochs_end() -> None:
    runner = on_a_device(make(loss=LossGoneBad("nan", at=3, until=5)))
    assert "at step 3 (epoch 0, batch 3)" in stop(runner)
    loss = runner.step.forward.loss
    assert isinstance(loss, LossGoneBad) and loss.step == STEPS - 1


def test_on_the_cpu_no_step_follows_a_bad_one() -> None:
    runner = make(loss=LossGoneBad("nan", at=3))
    stop(runner)
    loss = runner.step.forward.loss
    assert isinstance(loss, LossGoneBad) and loss.step == 3


@pytest.mark.parametrize("optim", OPTIMS.values(), ids=OPTIMS)
def test_on_a_device_a_good_training_has_the_same_bits(optim: Optim) -> None:
    runner = on_a_device(make(optim))
    runner.fit(2)
    assert same(weights_of(runner.model), weights_before(optim, 2 * STEPS))


def test_the_batch_is_named_within_limited_batches() -> None:
    text = stop(make(loss=LossGoneBad("nan", at=5), limit_batches=3))
    assert "at step 5 (epoch 1, batch 2)" in text


def test_the_epochs_before_a_bad_step_are_kept() -> None:
    recorded: list[int] = []
    runner = make(loss=LossGoneBad("nan"), record=lambda figures, step: recorded.append(step))
    stop(runner)
    assert recorded == [0, 0] and len(runner.history) == 1


def test_a_validation_loss_that_is_not_finite_does_not_stop() -> None:
    def loss(pred: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(pred, target) * (1.0 if pred.requires_grad else float("nan"))

    result = make(loss=loss).fit(2)
    assert len(result.history) == 2 and result.best_valid_loss != result.best_valid_loss


def test_pause_stops_in_the_debugger_after_each_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    sights: list[dict[str, Any]] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: sights.append(dict(sys._getframe(1).f_locals)))
    make(pause=True, limit_batches=2).fit(1)
    assert len(sights) == 2
    assert {"xb", "yb", "pred", "loss"} <= sights[0].keys()


def test_pause_has_the_gradients_in_sight_and_the_weights_not_yet_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    grads: list[Tensor | None] = []

    def look() -> None:
        grads.extend(p.grad.clone() for p in runner.step.update.params if p.grad is not None)
        assert same(weights_of(runner.model), weights_of(make().model))

    monkeypatch.setattr(sys, "breakpointhook", look)
    runner = make(pause=True, limit_batches=1)
    runner.train_epoch(0)
    model, (xb, yb) = make().model, plain_batches(0)[0]
    F.cross_entropy(model(xb), yb).backward()  # type: ignore[no-untyped-call]
    assert len(xb) == BATCH
    assert all(torch.equal(one, p.grad) for one, p in zip(grads, model.parameters(), strict=True) if one is not None)


def test_without_pause_there_is_no_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "breakpointhook", lambda: pytest.fail("it stopped"))
    make(limit_batches=1).fit(1)


def result(*losses: float) -> Result:
    history: list[Metrics] = [{"valid/loss": loss} for loss in losses]
    return Result(None, {}, history)


NAN = float("nan")


@pytest.mark.parametrize(
    ("losses", "best"),
    [((3, 1, 2), 1), ((2, 1, 1), 1), ((NAN, 2, 1), 2), ((1, NAN), 0), ((NAN, NAN), 0), ((NAN, float("inf")), 1)],
)
def test_the_best_epoch_has_the_lowest_loss_that_is_a_number(losses: tuple[float, ...], best: int) -> None:
    assert result(*losses).best_epoch == best


def test_best_valid_loss_is_that_of_the_best_epoch() -> None:
    assert result(NAN, 2.0, 1.5).best_valid_loss == 1.5


def test_each_epoch_records_the_best_validation_loss_so_far() -> None:
    losses = iter([9.0, 3.0, NAN, 4.0, 2.0])  # of the untrained model, then of four epochs

    def loss(pred: Tensor, target: Tensor) -> Tensor:
        plain = F.cross_entropy(pred, target)
        return plain if pred.requires_grad else plain * 0 + next(losses)

    valid = make(loss=loss, limit_batches=1).fit(4).history
    assert [figures["best/valid_loss"] for figures in valid] == [3.0, 3.0, 3.0, 2.0]


class FromTheDead(LossGoneBad):
    """Raises as torch does where it fetches a batch from a worker process that is gone, or as a dataset might."""

    def __init__(self, *, fetched: bool) -> None:
        super().__init__("nan")
        self.fetched = fetched

    def __call__(self, pred: Tensor, target: Tensor) -> Tensor:
        if not self.fetched:
            raise ConnectionResetError("the dataset's own")
        ours, theirs = Pipe()
        theirs.close()
        ours.recv()
        return super().__call__(pred, target)


@pytest.mark.long
def test_a_batch_that_cannot_be_fetched_from_a_dead_worker_is_told_as_that() -> None:
    runner = make(loss=FromTheDead(fetched=True))
    told = "a worker process of the loader was killed: EOFError"
    with pytest.raises(TrainingError, match=told), workers_watched(StopRequest()):
        runner.fit(1)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="without signals that come by a clock")
def test_the_word_of_a_dead_worker_that_comes_after_it_was_missed_is_what_is_told() -> None:
    def word(_number: int, _frame: Any) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    runner, before = make(loss=FromTheDead(fetched=True)), signal.signal(signal.SIGALRM, word)
    try:
        told = r"a worker process of the loader was killed: DataLoader worker \(pid 7\) is killed"
        with pytest.raises(TrainingError, match=told), workers_watched(StopRequest()):
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            runner.fit(1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_broken_connection_of_a_datasets_own_is_left_as_it_is() -> None:
    runner = make(loss=FromTheDead(fetched=False))
    with pytest.raises(ConnectionResetError, match="the dataset's own"), workers_watched(StopRequest()):
        runner.fit(1)
