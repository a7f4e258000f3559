"""`hydra/launcher=batched` with a user's own parts: each job comes to what it comes to alone, or is told why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import raw_journal
from tests.support.commands import command
from tests.support.stacked import at_any_gain
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

OWN = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from experiments import register
from experiments.training.callback import Callback

class Linear(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.layer = nn.Linear(data.features, data.outputs)
    def forward(self, xb):
        return self.layer(xb)

@register.model("averaging", input="flat")
class Averaging(Linear):
    def __init__(self, data):
        super().__init__(data)
        self.register_buffer("mean", torch.zeros(()))
    def forward(self, xb):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * xb.mean()
            return self.layer(xb)
        return self.layer(xb - self.mean)

@register.model("doubled", input="flat")
class Doubled(Linear):
    def __init__(self, data):
        super().__init__(data)
        self.other = nn.Parameter(torch.zeros(data.outputs, data.features))
    def forward(self, xb):
        return F.linear(xb, self.layer.weight + self.other, self.layer.bias)

@register.model("noisy", input="flat")
class Noisy(Linear):
    def __init__(self, data):
        super().__init__(data)
        self.norm, self.drop = nn.BatchNorm1d(data.features), nn.Dropout(0.5)
    def forward(self, xb):
        return self.layer(self.drop(self.norm(xb)))

@register.model("branching", input="flat")
class Branching(Linear):
    def forward(self, xb):
        return self.layer(xb) if self.training or xb.sum() > 0 else self.layer(-xb)

@register.model("monte_carlo", input="flat")
class MonteCarlo(Linear):
    def forward(self, xb):
        return self.layer(F.dropout(xb, 0.5, training=True))

@register.model("projected", input="flat")
class Projected(Linear):
    def __init__(self, data):
        super().__init__(data)
        self.projection = torch.randn(data.features, data.features)
    def forward(self, xb):
        return self.layer(xb @ self.projection)

@register.scheduler("with_momentum", per="step")
def with_momentum(optimizer, epochs, steps):
    return OneCycleLR(optimizer, max_lr=0.2, total_steps=epochs * steps, cycle_momentum=True)

@register.loss("to_the_power", targets="classes")
def to_the_power(pred, target, *, k: int = 1):
    return F.cross_entropy(pred * k, target)

@register.loss("choosy", targets="classes")
def choosy(pred, target, *, seen: float = 1.0):
    if torch.is_grad_enabled():
        raise ValueError("not today")
    return F.cross_entropy(pred, target)

@register.callback("predicting")
class Predicting(Callback):
    def on_epoch_end(self, runner, epoch, figures):
        runner.predict(runner.train.split.tensors[0][:8].to(runner.device).float())

@register.callback("hooking")
class Hooking(Callback):
    def on_begin(self, runner):
        runner.optimizer.register_step_post_hook(lambda *_: None)

@register.callback("on_gradients")
class OnGradients(Callback):
    def on_begin(self, runner):
        next(iter(runner.model.parameters())).register_hook(lambda grad: grad * 2)
"""
JOBS = ("dataset=digits", "seed=0,1", "epochs=3", "figures=false", "tracking=none", "optim=sgd_momentum")


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(tmp_path / "own.py"))


def losses(folder: Path) -> list[float]:
    return [line["values"]["valid/loss"] for line in raw_journal.read(folder) if "valid/loss" in line.get("values", {})]


@pytest.mark.parametrize(
    "given",
    [
        "model=averaging",
        "model=doubled optim.weight_decay=0.1 max_grad_norm=0.5",
        "model=noisy callbacks=predicting",
        "model=logistic scheduler=with_momentum",
    ],
)
def test_jobs_come_to_what_each_comes_to_alone(given: str, tmp_path: Path) -> None:
    jobs = ("-m", *JOBS, *given.split())
    done = command(*jobs, "hydra/launcher=batched", f"hydra.sweep.dir={tmp_path / 'a'}", before=at_any_gain)
    assert done.code == 0, done
    assert "trained together" in done.out
    assert command(*jobs, f"hydra.sweep.dir={tmp_path / 'b'}").code == 0
    for number in "01":
        assert losses(tmp_path / "a" / number) == pytest.approx(losses(tmp_path / "b" / number), rel=1e-3)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("branching", "torch.func.vmap cannot stack them"),
        ("monte_carlo", "torch.func.vmap cannot stack them"),
        ("projected", "of a trial the loss is"),
    ],
)
def test_jobs_that_a_stack_would_compute_otherwise_are_trained_alone(model: str, told: str, tmp_path: Path) -> None:
    given = ("-m", "hydra/launcher=batched", *JOBS, f"model={model}", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    done = command(*given, before=at_any_gain)
    assert done.code == 0, done
    assert "trained one after the other" in done.out and told in done.out


def test_jobs_of_two_whole_numbers_of_a_loss_are_two_stacks(tmp_path: Path) -> None:
    given = ("-m", "hydra/launcher=batched", *JOBS, "model=logistic", "loss=to_the_power", "loss.k=1,2")
    done = command(*given, f"hydra.sweep.dir={tmp_path / 'sweep'}", before=at_any_gain)
    assert done.code == 0, done
    assert done.out.count("trained together") == 2


def test_a_loss_that_raises_in_the_trial_fails_its_jobs_alone(tmp_path: Path) -> None:
    given = ("-m", "hydra/launcher=batched", *JOBS, "model=logistic", "loss=choosy", "sweep.on_failure=continue")
    done = command(*given, f"hydra.sweep.dir={tmp_path / 'sweep'}", before=at_any_gain)
    assert done.code == 1
    assert "jobs 0, 1 trained one after the other" in done.out
    assert done.out.count("not today") >= 2


@pytest.mark.parametrize("callback", ["hooking", "on_gradients"])
def test_a_hook_that_a_stack_would_not_call_is_told(callback: str, tmp_path: Path) -> None:
    given = ("-m", "hydra/launcher=batched", *JOBS, "model=logistic", f"callbacks={callback}")
    done = command(*given, f"hydra.sweep.dir={tmp_path / 'sweep'}", before=at_any_gain)
    assert done.code == 1
    assert "is not called in a stack" in raw_journal.summary(tmp_path / "sweep" / "0")["reason"]
