"""A stack of trainings against the same trainings alone: every optimiser, scheduler, transform and model it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import experiments
from experiments.config import check
from experiments.config.registry import register
from experiments.errors import ConfigError
from experiments.runs import preparation
from experiments.training.runner import Runner
from hydra_plugins.experiments_batched import _forward
from hydra_plugins.experiments_batched._member import Member
from hydra_plugins.experiments_batched._seat import Seat, set_generators
from hydra_plugins.experiments_batched._stack import Stack
from tests.support.training import DEVICES, one_thread  # noqa: F401  # one_thread: a fixture of every test here
from tests.training.test_cuda_graph import Repeating

STEPS = 200
ROWS = ("dataset=synthetic", "dataset.shape=[1,6,6]", "dataset.classes=3", "dataset.valid=12", "tracking=none")
RUN = (*ROWS, f"dataset.train={2 * STEPS}", "loader.batch_size=2", "model=mlp", "model.width=6", "figures=false")
SHORT = (*ROWS, "dataset.train=40", "loader.batch_size=8", "model=mlp", "model.width=6", "figures=false", "epochs=2")

OPTIMISERS = [name for name in register.optim.names if name != "lbfgs"]
SCHEDULERS = list(register.scheduler.names)
TRANSFORMS = list(register.transform.names)
SETTINGS = [
    *(f"optim={name}" for name in [*OPTIMISERS, "sgd_momentum"]),
    *(f"optim=adam scheduler={name}" for name in SCHEDULERS),
    *(f"optim=sgd_momentum scheduler={name}" for name in SCHEDULERS),
    *(f"transforms={name}" for name in TRANSFORMS),
    *("transforms=[normalize,random_shift]", "model.dropout=0.5", "model.dropout=0.3 transforms=[random_shift,mixup]"),
    *("optim.weight_decay=0.1", "optim=adam optim.weight_decay=0.1 +optim.groups=no_decay", "max_grad_norm=0.1"),
    *("loss=weighted_cross_entropy", "loader.drop_last=true", "loader.shuffle=false", "loader.draw=balanced"),
]


def prepared(*overrides: str) -> preparation.Preparation:
    return preparation.prepare(check.configured(overrides).root, overrides)


def seated(overrides: tuple[str, ...], slot: int) -> Seat:
    member = Member.of(prepared(*overrides).runner(None))
    member.seat = Seat(member, slot)
    member.seat.ask(0, member.progress.sums)
    return member.seat


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_each_of_many_steps_is_that_of_a_single_training(setting: str, device: str, workplace: Path) -> None:
    """From the same weights, state and noise before each step: the same loss, and the same weights after it."""
    given = (*RUN, f"device={device}", *setting.split())
    seats = [seated((*given, f"seed={seed}", f"optim.lr={lr}"), seed) for seed, lr in enumerate((0.01, 0.1, 0.002))]
    stack = Stack((3, 1), seats[0].runner)
    stack.stopping = lambda: True  # after each step
    alone = prepared(*given, "seed=1", "optim.lr=0.1").runner(None)
    steps = alone.train_steps(0)
    taken = seats[1].runner
    for step in range(STEPS):
        same_state(alone, taken)
        set_generators(seats[1].noise, alone.device)
        before = [p.detach().clone() for p in alone.model.parameters()]
        *_, loss = next(steps)
        stack.train(seats)
        sums = taken.progress.sums.state_dict()
        found = sums["pending"][-1][2] if sums["pending"] else sums["losses"][-1][-1]
        as_tensor = torch.stack([*loss]) if isinstance(loss, tuple) else loss
        assert torch.allclose(found, as_tensor, rtol=1e-5 if device == "cpu" else 1e-4, atol=1e-6), step
        for old, one, other in zip(before, alone.model.parameters(), taken.model.parameters(), strict=True):
            assert (one - other).abs().max() <= 1e-4 * (one - old).abs().max() + 1e-7, step


def same_state(alone: Runner, taken: Runner) -> None:
    alone.model.load_state_dict(taken.model.state_dict())
    with torch.no_grad():
        for one, other in zip(alone.params, taken.params, strict=True):
            one.copy_(other)
            if hasattr(alone.optimizer, "param_groups"):
                for key, value in taken.optimizer.state.get(other, {}).items():
                    known = alone.optimizer.state[one]
                    known[key] = value.clone()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_two_epochs_come_to_the_same_loss(setting: str, device: str, workplace: Path) -> None:
    given = [*SHORT, f"device={device}", *setting.split(), "optim.lr=0.02"]
    alone, taken = experiments.run(given), experiments.run([*given, "device.batched=3"])
    for one, other in zip(alone.history, taken.history, strict=True):
        for name in ("train/loss", "valid/loss"):
            assert other[name] == pytest.approx(one[name], rel=1e-3)
        assert other["train/accuracy"] == pytest.approx(one["train/accuracy"], abs=0.05)


IMAGES = ("dataset=synthetic", "dataset.shape=[1,28,28]", "dataset.train=24", "dataset.valid=12", "loader.batch_size=8")
MODELS = ["logistic", "mlp", "cnn", "cnn_sequential", "cnn_adaptive", "cnn_norm", "resnet_small", "logistic_parameters"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_comes_to_the_same_loss(model: str, device: str, workplace: Path) -> None:
    given = [
        *IMAGES,
        f"device={device}",
        f"model={model}",
        "tracking=none",
        "figures=false",
        "epochs=2",
        "optim.lr=0.02",
    ]
    alone, taken = experiments.run(given), experiments.run([*given, "device.batched=1x2"])
    assert [each["valid/loss"] for each in taken.history] == pytest.approx(
        [each["valid/loss"] for each in alone.history], rel=1e-3
    )


@pytest.mark.parametrize("model", ["logistic_tensors", "logistic_logits"])
def test_a_model_that_is_no_module_is_refused(model: str, workplace: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"device\.batched: model \w+ is not an nn\.Module; hydra/launcher=batched sets it"
    ):
        experiments.run([*IMAGES, f"model={model}", "tracking=none", "device.batched=2", "loss=cross_entropy"])


def test_running_statistics_are_those_of_each_training(workplace: Path) -> None:
    given = [*IMAGES, "model=cnn_norm", "tracking=none", "figures=false", "epochs=2", "optim.lr=0.01"]
    alone, taken = experiments.run(given), experiments.run([*given, "device.batched=2"])
    for (name, one), (_, other) in zip(alone.model.named_buffers(), taken.model.named_buffers(), strict=True):
        assert torch.allclose(one.float(), other.float(), rtol=1e-3, atol=1e-5), name


def losses(given: list[str]) -> list[dict[str, float]]:
    timed = ("time/", "throughput/")
    return [{key: each[key] for key in each if not key.startswith(timed)} for each in experiments.run(given).history]


@pytest.mark.parametrize("setting", ["model=mlp", "model=cnn_norm", "model=mlp model.dropout=0.5 transforms=mixup"])
def test_a_captured_step_is_the_step(setting: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [*IMAGES, *setting.split(), "tracking=none", "figures=false", "epochs=2", "device.batched=1x2"]
    plain, capture = losses(given), Repeating()
    monkeypatch.setattr(_forward, "capture_for", lambda _device: capture)
    assert losses(given) == plain
    assert capture.captured > 0


def test_a_step_that_cannot_be_captured_is_the_step(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Repeating):
        def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
            raise RuntimeError("operation not permitted when stream is capturing")

    given = [*IMAGES, "model=cnn_norm", "tracking=none", "figures=false", "epochs=2", "device.batched=2"]
    plain = losses(given)
    monkeypatch.setattr(_forward, "capture_for", lambda _device: Refusing())
    assert losses(given) == plain
