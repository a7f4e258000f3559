"""Two configurations side by side: planted faults are found where they begin, a refactoring is known as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from experiments import parity
from experiments.config.registry import register
from experiments.errors import ConfigError, TrainingError
from experiments.parity.stage_pairs import ENOUGH, StageVerdict
from experiments.parity.verdict import Verdict
from tests.support.models import IMAGES
from tests.support.places import MNIST, needs_mnist
from tests.support.planted import FLAT, SMALL, STEPS, own  # noqa: F401  # a fixture
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

with_own = pytest.mark.usefixtures("own")
DROPOUT = ["model=mlp", "model.dropout=0.5"]


def compare(a: Sequence[str], b: Sequence[str], steps: int = STEPS, common: Sequence[str] = FLAT) -> Verdict:
    return parity.compare([*common, *a], [*common, *b], steps=steps)


def found(verdict: Verdict) -> tuple[str, int | None, str]:
    return verdict.verdict, verdict.step, verdict.where


# What is planted, and where it begins


@with_own
def test_an_optimiser_that_forgets_zero_grad_is_found_in_the_first_gradient_of_the_second_step() -> None:
    assert found(compare(["optim=sgd"], ["optim=forgetful"])) == ("differs", 1, "gradient of lin.weight")


@with_own
def test_a_loss_of_another_scale_is_found_in_the_first_loss() -> None:
    verdict = compare([], ["loss=eightfold"])
    assert found(verdict) == ("differs", 0, "loss")
    assert verdict.found is not None
    mean, total = (float(value) for value in verdict.found.detail.split(" and "))
    assert total == pytest.approx(8 * mean) and verdict.difference == total - mean


@with_own
@pytest.mark.parametrize("shuffled", [["loader=restless"], ["loader.shuffle=true", "loader=slices"]])
def test_a_shuffled_loader_is_found_in_the_first_batch(shuffled: list[str]) -> None:
    assert found(compare(["loader=slices", "loader.shuffle=false"], shuffled)) == ("differs", 0, "batch x")


@pytest.mark.parametrize(
    ("model", "optim"), [("logistic", "sgd"), ("mlp", "sgd_momentum"), ("cnn", "adam"), ("cnn_adaptive", "adamw")]
)
def test_a_learning_rate_that_is_off_by_a_ten_thousandth_is_found_in_the_first_update(model: str, optim: str) -> None:
    common = [*SMALL, f"model={model}", f"optim={optim}"]
    verdict = compare(["optim.lr=0.01"], ["optim.lr=0.010001"], common=common)
    assert (verdict.verdict, verdict.step) == ("differs", 0)
    assert verdict.where.startswith("weight ")


@with_own
def test_a_wrong_transpose_of_a_square_matrix_is_found_in_the_first_loss() -> None:
    assert found(compare(["model=square"], ["model=square", "model.turned=true"])) == ("differs", 0, "loss")


@with_own
def test_a_transpose_that_is_meant_is_none() -> None:
    a, b = ["model=square", *FLAT], ["model=square", "model.turned=true", *FLAT]
    verdict = parity.compare(a, b, steps=STEPS, transpose=["hidden"])
    assert verdict.verdict in ENOUGH["equal"]
    assert "hidden = hidden transposed" in verdict.matching


@with_own
def test_a_buffer_that_moves_otherwise_is_found_in_the_first_update() -> None:
    verdict = compare(["model=normed"], ["model=normed_otherwise"])
    assert found(verdict) == ("differs", 0, "weight 1.running_mean")


def test_a_difference_that_begins_with_the_second_epoch_is_found_there() -> None:
    verdict = compare(["scheduler=constant"], ["scheduler=step"])
    assert found(verdict) == ("differs", STEPS // 2, "weight lin.weight")


def test_another_batch_size_is_found_in_the_first_batch() -> None:
    verdict = compare([], ["loader.batch_size=16"])
    assert found(verdict) == ("differs", 0, "batch x")
    assert "their shapes are (8, 36) and (16, 36)" in str(verdict)


def test_a_training_that_ends_earlier_differs_from_there_on() -> None:
    verdict = compare([], ["epochs=1"])
    assert found(verdict) == ("differs", STEPS // 2, "batch x")
    assert "the second configuration has no more batches" in str(verdict)


def test_another_mean_over_the_validation_rows_is_found_after_the_steps() -> None:
    verdict = compare([], ["evaluation.mean=batches"])
    assert found(verdict) == ("differs", STEPS, "valid/loss")
    assert str(verdict).startswith(f"differs after {STEPS} steps, in valid/loss; the steps themselves do not")


def test_another_model_differs_in_the_parameters_and_each_side_is_listed() -> None:
    verdict = compare(["model=logistic"], ["model=mlp", "model.width=4"])
    assert found(verdict) == ("differs", None, "parameters")
    told = "only the first has lin.weight (10, 36); only the second has 0.weight (4, 36), 0.bias (4,), 2.weight (10, 4)"
    assert told in str(verdict)


def test_a_second_training_that_is_no_longer_finite_differs_where_that_happens() -> None:
    verdict = compare([], ["optim.lr=1e38"])
    assert found(verdict) == ("differs", 0, "weight lin.weight")
    assert verdict.drift is not None and math.isinf(verdict.drift.loss)


def test_a_first_training_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(TrainingError, match="the first configuration: the loss or a gradient is not finite at step"):
        compare(["optim.lr=1e38"], [])


# What is the same


def every_component() -> list[list[str]]:
    chosen = [["model", name] for name in IMAGES]
    chosen += [["optim", name] for name in register.optim.names]
    chosen += [["scheduler", name] for name in register.scheduler.names]
    chosen += [["loader", name] for name in register.loader.names]
    chosen += [["transforms", name] for name in register.transform.names]
    return chosen


@pytest.mark.parametrize(("group", "name"), every_component())
def test_every_component_is_identical_to_itself_with_noise_too(group: str, name: str) -> None:
    noisy = [] if group == "model" else DROPOUT
    chosen = [*SMALL, *noisy, "transforms=[random_shift]", f"{group}={name}"]
    assert compare(chosen, chosen, steps=STEPS, common=[]).verdict == "identical"


@with_own
@pytest.mark.parametrize("optim", ["sgd", "sgd_momentum", "adam", "adamw"])
def test_a_refactoring_that_only_rounds_otherwise_is_equal(optim: str) -> None:
    verdict = compare(["model=logistic", f"optim={optim}"], ["model=in_halves", f"optim={optim}"])
    assert verdict.verdict == "equal"
    assert 0 < verdict.difference < 1e-5
    assert verdict.drift is not None and 0 < verdict.drift.loss < 1e-3


def test_a_matrix_that_lies_otherwise_is_turned_by_itself() -> None:
    verdict = compare(["model=logistic_parameters"], ["model=logistic"])
    assert verdict.verdict in ENOUGH["equal"]
    assert verdict.matching == ("weights = lin.weight transposed", "bias = lin.bias")


@with_own
def test_optimisers_that_remember_in_different_ways_each_keep_their_own() -> None:
    verdict = compare(["optim=sgd_momentum"], ["optim=by_hand_momentum"])
    assert verdict.verdict in ENOUGH["equal"]
    assert verdict.notes == ("the two optimisers remember different things, so each keeps its own memory",)


@with_own
def test_the_optimisers_memory_is_put_over_transposed_too() -> None:
    common = ["optim=sgd_momentum"]
    a, b = ["model=logistic_parameters", *common], ["model=logistic", *common]
    assert compare(a, b).verdict in ENOUGH["equal"]


def test_trained_weights_are_left_out() -> None:
    assert compare(["init_from=12_wrapped_dataloader"], []).verdict == "identical"


def test_a_shorter_training_than_asked_for_is_compared_as_a_whole() -> None:
    verdict = compare([], [], steps=500)
    assert (verdict.steps, verdict.notes) == (STEPS, ("the training has no more steps",))


def test_settings_of_the_process_are_left_as_they_were() -> None:
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    compare(["device.threads=2", "deterministic=true"], ["device.threads=1"], steps=2)
    assert before == (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())


def test_nothing_is_left_behind(workplace: Path) -> None:
    compare(["callbacks=weight_images"], ["callbacks=tutorial_figures"], steps=2)
    assert list(workplace.iterdir()) == []


def test_both_configurations_are_checked_before_the_first_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*_arguments: object) -> None:
        raise AssertionError("a configuration is prepared")

    monkeypatch.setattr("experiments.runs.preparation.prepare", prepare)
    with pytest.raises(ConfigError, match=r"optim\.lrr: unknown key"):
        compare([], ["optim.lrr=1"])
    with pytest.raises(AssertionError, match="a configuration is prepared"):
        compare([], [])


# Interrupted


@pytest.mark.parametrize("at", [1, STEPS // 2, STEPS // 2 + 1, STEPS - 1])
def test_a_training_that_goes_on_is_identical_to_a_straight_one(at: int) -> None:
    overrides = [*FLAT, *DROPOUT, "optim=adam", "scheduler=one_cycle", "transforms=[random_shift]"]
    verdict = parity.resumed(overrides, at, steps=STEPS)
    assert (verdict.verdict, verdict.steps) == ("identical", STEPS)


@pytest.mark.parametrize(
    "settings",
    [
        ["optim=lbfgs", "optim.max_iter=3"],
        ["scheduler=plateau", "scheduler.patience=0", "optim.lr=2.0"],
        ["accumulate=2", "loader.batch_size=4"],
        ["optim=adamw", "optim.groups={*.bias: {lr: 0.01}}", "scheduler=one_cycle"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("at", [STEPS // 2, STEPS // 2 + 1])
def test_what_surrounds_a_step_goes_on_identical(settings: list[str], at: int) -> None:
    assert parity.resumed([*FLAT, *DROPOUT, *settings], at, steps=STEPS).verdict == "identical"


@with_own
def test_a_state_that_is_not_put_back_is_found_in_the_first_update_after() -> None:
    verdict = parity.resumed([*FLAT, "optim=amnesiac"], 4, steps=STEPS)
    assert found(verdict) == ("differs", 4, "weight lin.weight")


@pytest.mark.parametrize("at", [-1, 0, STEPS, 1000])
def test_an_interruption_outside_the_steps_is_refused(at: int) -> None:
    with pytest.raises(ConfigError, match=rf"--resume-at: {at} is not within the steps 1 \.\. {STEPS - 1}$"):
        parity.resumed(FLAT, at, steps=500)


# The stages


def test_every_stage_is_as_its_file_expects() -> None:
    pairs = parity.stages(["dataset=mnist_5k", "tracking=none"], steps=8)
    assert [str(pair.verdict) for pair in pairs if not pair.holds] == []
    assert len(pairs) == 13


def test_a_rate_that_is_no_power_of_two_rounds_otherwise_in_the_hand_written_update() -> None:
    """So that stage 5 would be equal, and its file says identical for a rate of 0.5."""
    found = {lr: compare(["optim=by_hand", f"optim.lr={lr}"], ["optim=sgd", f"optim.lr={lr}"]) for lr in (0.0625, 0.05)}
    assert {lr: verdict.verdict for lr, verdict in found.items()} == {0.0625: "identical", 0.05: "equal"}


@pytest.mark.slow
@needs_mnist
def test_every_stage_is_as_its_file_expects_on_the_full_data(workplace: Path) -> None:
    pairs = {pair.stage: pair for pair in parity.stages([f"dataset.source={MNIST}", "tracking=none"], steps=200)}
    assert [str(pair.verdict) for pair in pairs.values() if not pair.holds] == []
    same = ("03_module", "05_optim", "06_tensor_dataset", "07_dataloader", "11_sequential")
    assert {pairs[stage].verdict.verdict for stage in same} == {"identical"}
    for stage in ("02_functional", "04_linear", "12_wrapped_dataloader"):
        assert pairs[stage].verdict.verdict in ENOUGH["equal"]


@pytest.mark.parametrize(
    ("expected", "where", "holds"),
    [
        ("differs", "batch", True),
        ("differs", "valid/loss", False),
        ("differs", "parameters", False),
        ("equal", "", False),
        ("identical", "", False),
    ],
)
def test_an_expectation_is_broken_by_another_verdict_and_by_another_place(
    expected: str, where: str, holds: bool
) -> None:
    verdict = compare(["loader.shuffle=true"], ["loader.shuffle=false"], steps=1)
    assert StageVerdict("a", "b", verdict, expected, where, {}).holds is holds


def test_identical_is_more_than_equal_and_equal_is_less_than_identical() -> None:
    same, close = Verdict("identical", 1, 0.0), Verdict("equal", 1, 0.0)
    assert StageVerdict("a", "b", same, "equal", "", {}).holds
    assert not StageVerdict("a", "b", close, "identical", "", {}).holds
