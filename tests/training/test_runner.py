"""The one loop against plain loops: epochs, means, clipping, schedulers, transforms and the hooks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses

from experiments.components.metrics import accuracy
from experiments.training.callback import Callback, Training
from experiments.training.result import Metrics
from experiments.training.runner import weights_of
from tests.support.training import (
    BATCH,
    SPLITS,
    STEPS,
    VALID,
    batches,
    fresh_model,
    make,
    one_thread,  # noqa: F401  # a fixture of every test here
    plain_batches,
    same,
    valid_losses,
    weighted,
)


def plain_fit(epochs: int) -> tuple[nn.Module, list[tuple[float, float]]]:
    """The loop as one would write it: the model, and train and valid loss of each epoch."""
    model = fresh_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    history = []
    for epoch in range(epochs):
        losses = []
        for xb, yb in plain_batches(epoch):
            loss = F.cross_entropy(model(xb), yb)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            losses.append((loss.item(), len(xb)))
        history.append((weighted(losses), weighted(valid_losses(model))))
    return model, history


def test_a_fit_has_the_weights_of_a_plain_loop_bit_for_bit() -> None:
    runner = make()
    runner.fit(2)
    assert same(weights_of(runner.model), weights_of(plain_fit(2)[0]))


def test_a_fit_has_the_losses_of_a_plain_loop_bit_for_bit() -> None:
    history = make().fit(2).history
    assert [(figures["train/loss"], figures["valid/loss"]) for figures in history] == plain_fit(2)[1]


def test_one_update_less_makes_other_weights() -> None:
    runner = make(limit_batches=STEPS - 1)
    runner.fit(2)
    assert not same(weights_of(runner.model), weights_of(plain_fit(2)[0]))


def test_the_untrained_model_is_evaluated_before_the_first_step() -> None:
    recorded: list[tuple[Metrics, int]] = []
    result = make(record=lambda figures, step: recorded.append((dict(figures), step))).fit(1)
    expected = {"untrained/valid_loss": weighted(valid_losses(fresh_model()))}
    assert recorded[0] == (expected, 0)
    assert result.untrained == expected


def test_figures_are_recorded_with_their_epoch_as_step() -> None:
    recorded: list[tuple[Metrics, int]] = []
    result = make(record=lambda figures, step: recorded.append((figures, step))).fit(3)
    assert recorded[1:] == list(zip(result.history, range(3), strict=True))


def test_a_mean_over_batches_is_the_unweighted_one() -> None:
    losses = [loss for loss, _ in valid_losses(fresh_model())]
    figures = make(mean_over="batches", metrics={"accuracy": accuracy}).evaluate(0)
    assert figures["loss"] == sum(losses) / len(losses)
    assert figures["loss"] != weighted(valid_losses(fresh_model()))


def test_a_metric_over_batches_is_the_mean_of_the_batches_shares() -> None:
    figures = make(mean_over="batches", metrics={"accuracy": accuracy}).evaluate(0)
    x, y = SPLITS.valid.floats()
    right = (fresh_model()(x).argmax(1) == y).tolist()
    shares = [sum(part) / len(part) for part in (right[i : i + BATCH] for i in range(0, VALID, BATCH))]
    assert figures["accuracy"] == pytest.approx(sum(shares) / len(shares), rel=1e-12)


def test_a_metric_is_its_sum_over_all_rows_divided_by_them() -> None:
    runner = make(metrics={"accuracy": accuracy, "rows": lambda pred, target: torch.tensor(len(pred))})
    x, y = SPLITS.valid.floats()
    right = int((fresh_model()(x).argmax(1) == y).sum())
    assert runner.evaluate(0) | {"loss": 0} == {"loss": 0, "accuracy": right / VALID, "rows": 1}


def test_training_figures_are_taken_before_each_update() -> None:
    runner = make(metrics={"accuracy": accuracy}, limit_batches=1)
    xb, yb = plain_batches(0)[0]
    pred = fresh_model()(xb)
    expected = {"loss": F.cross_entropy(pred, yb).item(), "accuracy": (pred.argmax(1) == yb).sum().item() / BATCH}
    assert runner.train_epoch(0) == (expected, BATCH)


def test_evaluation_leaves_weights_gradients_and_random_state_alone() -> None:
    runner = make()
    before, state = weights_of(runner.model), torch.get_rng_state()
    runner.evaluate(0)
    assert same(before, weights_of(runner.model)) and torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in runner.step.update.params)


def test_evaluation_leaves_the_training_order_alone() -> None:
    runner, other = make(), make()
    runner.evaluate(0)
    runner.evaluate(7)
    runner.fit(1)
    other.fit(1)
    assert same(weights_of(runner.model), weights_of(other.model))


def test_training_and_evaluation_each_set_the_models_mode() -> None:
    modes: list[bool] = []
    model = fresh_model()
    model.register_forward_hook(lambda module, inputs, output: modes.append(module.training))
    make(model=model, limit_batches=1).fit(1)
    assert modes == [False, True, False]


def test_other_batches_can_be_evaluated() -> None:
    x, y = SPLITS.train.floats()
    loss = F.cross_entropy(fresh_model()(x), y).item()
    assert make().evaluate(0, batches(SPLITS.train))["loss"] == pytest.approx(loss, rel=1e-6)


def test_limit_batches_holds_in_training_and_evaluation() -> None:
    runner = make(limit_batches=2)
    assert runner.steps == 2
    assert runner.train_epoch(0)[1] == 2 * BATCH
    assert make(limit_batches=2).evaluate(0)["loss"] == weighted(valid_losses(fresh_model())[:2])


def test_a_limit_beyond_the_batches_changes_nothing() -> None:
    assert make(limit_batches=999).steps == STEPS


def test_gradients_are_clipped_as_torch_clips_them() -> None:
    runner = make(max_grad_norm=0.05)
    runner.train_epoch(0)
    model = fresh_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for xb, yb in plain_batches(0):
        F.cross_entropy(model(xb), yb).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        optimizer.step()
        optimizer.zero_grad()
    assert same(weights_of(runner.model), weights_of(model))


@pytest.mark.parametrize(("each", "calls"), [("step", 2 * STEPS), ("epoch", 2)])
def test_a_scheduler_is_called_each_step_or_each_epoch(each: str, calls: int) -> None:
    made: list[int] = []

    class Counter:
        def step(self) -> None:
            made.append(1)

    make(scheduler=Counter(), step_scheduler_each=each).fit(2)
    assert len(made) == calls


def test_transforms_are_applied_in_turn_each_to_its_own_split() -> None:
    seen: list[tuple[float, bool]] = []

    def watch(xb: Tensor) -> Tensor:
        seen.append((xb.max().item(), runner.model.training))
        return xb

    double, halve = (lambda xb: xb * 0 + 2), (lambda xb: xb - 1)
    runner = make(train_transforms=[double, halve, watch], valid_transforms=[double, watch], limit_batches=1)
    runner.fit(1)
    assert seen == [(2, False), (1, True), (2, False)]


def test_callbacks_are_called_in_order() -> None:
    calls: list[str] = []

    class Named(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_fit_start(self, runner: Training) -> None:
            calls.append(f"{self.name} start")

        def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
            calls.append(f"{self.name} {epoch}")

        def on_fit_end(self, runner: Training) -> None:
            calls.append(f"{self.name} end")

    make(callbacks=[Named("a"), Callback(), Named("b")]).fit(2)
    assert calls == ["a start", "b start", "a 0", "b 0", "a 1", "b 1", "a end", "b end"]


def test_figures_that_a_callback_adds_are_recorded() -> None:
    class Adds(Callback):
        def on_epoch_end(self, runner: Training, epoch: int, figures: Metrics) -> None:
            figures["own"] = epoch

    recorded: list[Metrics] = []
    make(callbacks=[Adds()], record=lambda figures, step: recorded.append(figures)).fit(2)
    assert [figures["own"] for figures in recorded[1:]] == [0, 1]
