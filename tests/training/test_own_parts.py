"""Own steps, losses and callbacks: they train, resume to the same bits, and are scripts; what cannot be is refused."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses

import experiments
from experiments import parity
from experiments.components.steps import supervised
from experiments.config.check import configured
from experiments.runs import preparation
from experiments.runs.evaluation import evaluate
from experiments.training.callback import Callback, Training
from experiments.training.own_step import OwnStep
from experiments.training.runner import Runner, weights_of
from tests.export_script.test_script import same_losses
from tests.support.resuming import alike, outcome
from tests.support.training import make, one_thread, same  # noqa: F401  # a fixture of every test here

OWN = Path(__file__).parents[1] / "support" / "own_parts.py"
SMALL = [
    *("tracking=none", "figures=false", "device=cpu", "dataset=synthetic", "dataset.shape=[1,4,4]", "epochs=2"),
    *("dataset.train=45", "dataset.valid=21", "loader.batch_size=8", "loader.valid_batch_size=6", "optim.lr=0.01"),
]
MLP = ["model=mlp", "model.width=6", "model.dropout=0.5"]
GAN = ["model=own_gan", "optim=adam"]
STEPS = {
    "own_distilled": MLP,
    "own_simclr": MLP,
    "own_counting": MLP,
    "own_gan": GAN,
    "own_wgan": GAN,
}
LOSSES = ["own_distil", "own_weighted", "weighted_cross_entropy"]
CHOSEN = [
    *([*model, f"step={step}"] for step, model in STEPS.items()),
    *([*MLP, f"loss={loss}"] for loss in LOSSES),
    [*MLP, "callbacks=own_clipping"],
    [*MLP, "transforms=mixup"],
    ["model=cnn_adaptive", "transforms=[random_shift,cutmix]"],
    ["model=own_pinn"],
]
# Those that evaluate otherwise than a plain model and a plain mean.
EVALUATED = ["step=own_counting", "step=own_gan", "loss=own_distil", "loss=own_weighted", "model=own_pinn"]
every_part = pytest.mark.parametrize("chosen", CHOSEN, ids=lambda chosen: chosen[-1])


@pytest.fixture(autouse=True)
def own_parts(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(OWN))
    return workplace


def runner_of(chosen: Sequence[str], folder: Path | None = None) -> Runner:
    return preparation.prepare(configured([*SMALL, *chosen]).root, ()).runner(folder)


class StopAfter(Callback):
    """Ends a training after a step, as a signal does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, runner: Any, step: int) -> None:
        if step == self.step:
            runner.stop_request.reason = KeyboardInterrupt()


@every_part
def test_it_resumes_within_an_epoch_bit_for_bit(chosen: list[str], own_parts: Path) -> None:
    straight = runner_of(chosen)
    straight.fit(2)
    expected = outcome(straight)
    first = runner_of(chosen, own_parts / "first")
    first.callbacks = [*first.callbacks, StopAfter(8)]
    with pytest.raises(KeyboardInterrupt):
        first.fit(2)
    assert first.checkpoints is not None
    state = first.checkpoints.newest()
    assert state is not None
    torch.manual_seed(4321)
    second = runner_of(chosen)
    second.load_state_dict({**state, "callbacks": state["callbacks"][:-1]})
    second.fit(2)
    assert alike(outcome(second), expected)


@every_part
def test_parity_finds_a_resumed_one_identical(chosen: list[str]) -> None:
    assert parity.resumed([*SMALL, *chosen], 3, steps=8).verdict == "identical"


@every_part
def test_its_script_prints_its_losses_to_the_last_bit(chosen: list[str], own_parts: Path) -> None:
    if "callbacks=own_clipping" not in chosen:
        assert same_losses([*SMALL, *chosen], own_parts)


@pytest.mark.parametrize("chosen", [part for part in CHOSEN if part[-1] in EVALUATED], ids=lambda chosen: chosen[-1])
def test_evaluated_again_it_has_the_runs_last_metrics(chosen: list[str]) -> None:
    result = experiments.run([*SMALL, *chosen])
    assert evaluate(result) == {k: v for k, v in result.history[-1].items() if k.startswith("valid/")}


def test_a_script_of_a_callback_that_is_missing_says_so() -> None:
    from experiments.export_script.exporting import export

    assert "Without callbacks.own_clipping" in export([*SMALL, *MLP, "callbacks=own_clipping"]).text


def refusal(*chosen: str) -> str:
    with pytest.raises(experiments.ConfigError) as caught:
        preparation.prepare(configured([*SMALL, *chosen]).root, ()).runner(Path("runs"))
    assert "\n" not in str(caught.value) or "device.graph=true" in chosen  # which a CPU cannot have either
    return str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (
            ["step=own_broken"],
            "step: own_broken, which returns predictions, targets and loss, failed on a batch: Train",
        ),
        (
            ["loss=own_unfrozen"],
            "loss: own_unfrozen has parameters that nothing trains (teacher.weight); call self.req",
        ),
        (["loss=own_sum"], "own_sum sums over the rows"),
        (["step=own_forgetful"], "step: Forgetful must define state_dict() and load_state_dict() to be resumable"),
        (["loss=mse", "transforms=mixup"], "mse takes real targets"),
        (["loss.weights=[1,2]", "loss=weighted_cross_entropy"], "has 10 classes; their weights are [1.0, 2.0]"),
        (["step=own_simclr", "device.graph=true"], "device.graph: step own_simclr has its own forward passes"),
        (["step=own_simclr", "device.compile=true"], "device.compile: step own_simclr has its own forward passes"),
        (["step=own_simclr", "device.precision=fp16"], "device.precision: step own_simclr has its own forward passes"),
        (
            ["model=own_pinn_unsaid"],
            "model: own_pinn_unsaid takes derivatives in evaluation too; register it with grad",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_does_not_hold_is_refused_in_a_line(chosen: list[str], told: str) -> None:
    assert told in refusal("model=mlp", *chosen)


def test_a_loss_that_depends_on_the_batches_is_told(caplog: pytest.LogCaptureFixture) -> None:
    runner_of([*MLP, "loss=own_per_batch", "loader.valid_batch_size=21"])
    assert "own_per_batch depends on which rows share a batch" in caplog.text


@pytest.mark.parametrize("loss", ["own_weighted", "weighted_cross_entropy"])
def test_a_weighted_loss_has_one_mean_whatever_its_batches(loss: str) -> None:
    found = [
        runner_of([*MLP, f"loss={loss}", f"loader.valid_batch_size={size}"]).evaluate(0)["loss"] for size in (1, 6, 21)
    ]
    assert found == pytest.approx([found[0]] * 3, rel=1e-6)


def test_balanced_weights_are_those_of_the_training_rows() -> None:
    runner = runner_of([*MLP, "loss=weighted_cross_entropy", "loader.valid_batch_size=21"])
    x, y = runner.valid.split.floats()
    _, trained = runner.train.split.tensors
    weights = torch.tensor([45 / (10 * max(1, int((trained == label).sum()))) for label in range(10)])
    runner.model.eval()
    with torch.no_grad():
        expected = F.cross_entropy(runner.model(x), y, weight=weights).item()
    assert runner.evaluate(0)["loss"] == pytest.approx(expected, rel=1e-6)


def test_the_plain_step_written_as_an_own_one_has_its_bits() -> None:
    plain, own = make(max_grad_norm=0.5), make(max_grad_norm=0.5)
    own.step = OwnStep(own.step.forward, own.step.update, functools.partial(supervised), None)  # type: ignore[arg-type]
    plain.fit(2)
    own.fit(2)
    assert same(weights_of(plain.model), weights_of(own.model))
    assert [h["train/loss"] for h in plain.history] == [h["train/loss"] for h in own.history]


def test_an_update_of_a_group_leaves_the_other_parameters() -> None:
    runner = runner_of([*GAN, "step=own_gan"])
    before = weights_of(runner.model)
    step = runner.step
    assert isinstance(step, OwnStep)
    step.training.update(runner.model.d(torch.ones(2, 16)).sum(), group="d")
    after = weights_of(runner.model)
    assert {name for name in before if not torch.equal(before[name], after[name])} <= {n for n in before if n[0] == "d"}
    assert any(not torch.equal(before[name], after[name]) for name in before)


class Begun(Callback):
    """Remembers its hooks' calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_begin(self, runner: Training) -> None:
        self.calls.append(("begin", len(runner.history)))

    def on_step_end(self, runner: Training, step: int) -> None:
        self.calls.append(step)


class Evaluating(Callback):
    """Evaluates after each step."""

    def on_step_end(self, runner: Training, step: int) -> None:
        runner.evaluate(0)


def test_on_begin_is_called_at_the_start_and_with_a_restored_state() -> None:
    first, second = (make(callbacks=[Begun()]) for _ in range(2))
    first.fit(1)
    second.load_state_dict(first.state_dict())
    second.fit(2)
    calls = [runner.callbacks[0].calls for runner in (first, second)]  # type: ignore[attr-defined]
    assert calls == [[("begin", 0), *range(7)], [("begin", 1), *range(7, 14)]]


def test_hooks_of_the_optimiser_that_resuming_would_lose_are_refused() -> None:
    with pytest.raises(experiments.TrainingError, match="on_fit_start adds to .*; do it in on_begin"):
        runner_of([*MLP, "callbacks=own_hooking"]).fit(1)


def test_a_callback_that_evaluates_after_a_step_leaves_the_training_as_it_is() -> None:
    expected = runner_of(MLP).fit(2).history[-1]["train/loss"]
    watched = runner_of(MLP)
    watched.callbacks = [Evaluating()]
    assert watched.fit(2).history[-1]["train/loss"] == expected


def test_what_a_callback_lacks_where_it_resumes_is_one_line() -> None:
    first, second = (runner_of([*MLP, "callbacks=own_lacking"]) for _ in range(2))
    first.fit(1)
    second.load_state_dict(first.state_dict())
    with pytest.raises(experiments.TrainingError, match="^callback Lacking: on_epoch_end needs self.copy, .* on_begin"):
        second.fit(2)


@pytest.mark.parametrize("step", ["supervised", "own_counting"])
def test_a_mixed_batch_is_measured_by_its_stronger_labels(step: str) -> None:
    runner = runner_of([*MLP, "transforms=mixup", f"step={step}"])
    (_, target, pred, loss), *_ = runner.train_steps(0)
    assert (target.dtype, target.shape) == (torch.int64, pred.shape[:1]) and math.isfinite(loss)


def test_the_usual_step_does_not_identify_a_run() -> None:
    assert not [name for name in preparation.prepare(configured(SMALL).root, ()).identity if "step" in name]
