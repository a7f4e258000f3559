"""Optimisers that evaluate again, get names or groups, and schedulers that watch, against plain torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, optim
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from experiments import seeds
from experiments.config.check import configured
from experiments.config.registry import Component, Registry, register
from experiments.config.root import RootConfig
from experiments.errors import ConfigError
from experiments.training import build
from experiments.training.checkpoint import Checkpoints
from experiments.training.param_groups import grouped, without_decay
from experiments.training.runner import Runner, weights_of
from tests.support.resuming import SMALL, checked, different, maker
from tests.support.training import (
    one_thread,  # noqa: F401  # a fixture of every test here
    same,
)

PLAIN = ("model=mlp", "model.width=6", "transforms=none")
BIASES = "optim.groups={*.bias: {weight_decay: 0, lr: 0.01}}"

Own = Callable[..., Runner]


def assembled(root: RootConfig, folder: Path | None = None) -> Runner:
    streams = seeds.derive(root.seed, {})
    model = build.build_model(root, SMALL.spec, streams)
    checkpoints = None if folder is None else Checkpoints(folder)
    cpu = torch.device("cpu")
    return build.assemble(
        root, splits=SMALL, model=model, device=cpu, seeds=streams, folder=None, checkpoints=checkpoints
    )


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Own:
    """Assembles a training with a factory, registered as `mine`."""

    def made(kind: Registry, factory: Any, folder: Path | None = None, **facts: Any) -> Runner:
        monkeypatch.setitem(kind._components, "mine", Component(kind.kind, "mine", factory, facts))
        return assembled(checked(*PLAIN).model_copy(update={kind.group: {**kind.common, "name": "mine"}}), folder)

    return made


def rows(runner: Runner) -> list[tuple[Tensor, Tensor]]:
    return [(xb.clone(), yb.clone()) for xb, yb in runner.train.epoch(0)]


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        assembled(configured(["dataset=synthetic", "device=cpu", *PLAIN, *overrides]).root)
    return str(raised.value)


def test_lbfgs_has_the_losses_and_weights_of_a_plain_loop_bit_for_bit() -> None:
    make = maker("optim=lbfgs", "optim.max_iter=4", model=PLAIN)
    runner, twin = make(), make()
    model, total = twin.model, 0.0
    optimizer = optim.LBFGS(model.parameters(), lr=1.0, max_iter=4)
    for xb, yb in rows(twin):

        def closure(xb: Tensor = xb, yb: Tensor = yb) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(xb), yb)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        total += optimizer.step(closure).item() * len(xb)  # type: ignore[no-untyped-call]  # the first loss
    assert runner.train_epoch(0)[0]["loss"] == total / 20
    assert same(weights_of(runner.model), weights_of(model))


class Sharpness(optim.SGD):
    """Sharpness-aware: steps by the gradient at the weights plus a tenth of their gradient."""

    @torch.no_grad()
    def step(self, closure: Any) -> None:  # type: ignore[override]
        params = [p for group in self.param_groups for p in group["params"]]
        before = [p.clone() for p in params]
        for p in params:
            p += 0.1 * p.grad
        closure()
        for p, old in zip(params, before, strict=True):
            p.copy_(old)
        super().step()


def test_an_optimiser_that_starts_from_gradients_gets_those_where_it_moved_the_weights(own: Own) -> None:
    runner, twin = (own(register.optim, lambda params: Sharpness(params, lr=0.1), closure=True) for _ in range(2))
    xb, yb = rows(twin)[0]
    params = list(twin.model.parameters())
    first = torch.autograd.grad(F.cross_entropy(twin.model(xb), yb), params)
    moved = {name: p + 0.1 * grad for (name, p), grad in zip(twin.model.named_parameters(), first, strict=True)}
    loss = F.cross_entropy(torch.func.functional_call(twin.model, moved, (xb,)), yb)
    second = torch.autograd.grad(loss, list(moved.values()))
    next(runner.train_steps(0))
    for p, old, grad in zip(runner.model.parameters(), params, second, strict=True):
        assert torch.allclose(p, old - 0.1 * grad, atol=1e-7)


def test_torchs_own_lbfgs_needs_no_declaration(own: Own) -> None:
    runner = own(register.optim, lambda params: optim.LBFGS(params, max_iter=2))
    assert runner.fit(1).history[0]["train/loss"] > 0


def test_another_step_that_needs_a_closure_is_refused_with_the_remedy(own: Own) -> None:
    with pytest.raises(ConfigError, match=r'needs closure.*register\.optim\("mine", closure=True\)'):
        own(register.optim, lambda params: Sharpness(params, lr=0.1))


def test_a_loss_that_is_not_finite_leaves_lbfgs_weights_as_they_were() -> None:
    runner = maker("optim=lbfgs", model=PLAIN)()
    with torch.no_grad():
        runner.model.get_parameter(next(iter(dict(runner.model.named_parameters())))).fill_(float("inf"))
    before = weights_of(runner.model)
    with pytest.raises(Exception, match="not finite at step 0"):
        next(runner.train_steps(0))
    assert same(weights_of(runner.model), before)


def test_lbfgs_clips_the_gradients_of_each_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = maker("optim=lbfgs", "optim.max_iter=3", "max_grad_norm=1e-3", model=PLAIN)()
    norms: list[float] = []
    clip = torch.nn.utils.clip_grad_norm_

    def counted(params: Any, limit: float) -> Tensor:
        norms.append(limit)
        return clip(params, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", counted)
    next(runner.train_steps(0))
    assert norms == [1e-3] * 3  # the first is not evaluated again


def test_what_several_evaluations_do_not_go_with_is_refused() -> None:
    assert "evaluates a batch several times in a step" in refusal("optim=lbfgs", "device.precision=fp16")


def test_plateau_has_the_learning_rates_of_torchs_own(tmp_path: Path) -> None:
    runner = maker("scheduler=plateau", "scheduler.patience=0", "optim.lr=3.0", model=PLAIN)()
    twin = optim.SGD([torch.zeros(1, requires_grad=True)], lr=3.0)
    reference, rates = ReduceLROnPlateau(twin, patience=0), []
    for epoch in range(6):
        runner.history.append(runner.run_epoch(epoch))
        reference.step(runner.history[-1]["valid/loss"])
        rates.append(twin.param_groups[0]["lr"])
        assert runner.optimizer.param_groups[0]["lr"] == rates[-1]
    assert len(set(rates)) > 1


def test_plateau_may_watch_a_metric_that_is_largest_at_best() -> None:
    overrides = ("scheduler=plateau", "scheduler.monitor=train/accuracy", "scheduler.mode=max", "scheduler.patience=0")
    runner = maker(*overrides, "optim.lr=1e-5", model=PLAIN)()
    runner.fit(2)
    assert runner.optimizer.param_groups[0]["lr"] == pytest.approx(1e-6)


def test_torchs_own_plateau_watches_the_validation_loss_undeclared(own: Own) -> None:
    assert own(register.scheduler, lambda optimizer, epochs, steps: ReduceLROnPlateau(optimizer)).fit(1).history


class Watching:
    """Its step() takes something."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def step(self, value: float) -> None:
        self.seen.append(value)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = list(state["seen"])


def test_a_declared_scheduler_gets_the_metric_of_each_epoch(own: Own) -> None:
    runner = own(register.scheduler, lambda optimizer, epochs, steps: Watching(), watches="valid/accuracy")
    history = runner.fit(2).history
    assert runner.scheduler.seen == [figures["valid/accuracy"] for figures in history]


def test_a_step_that_takes_something_is_refused_with_the_remedy(own: Own) -> None:
    with pytest.raises(ConfigError, match=r'step\(\) needs value.*register\.scheduler\("mine", watches="valid/loss"\)'):
        own(register.scheduler, lambda optimizer, epochs, steps: Watching())


def test_what_a_scheduler_watches_is_a_metric_of_the_run(own: Own) -> None:
    with pytest.raises(ConfigError, match="watches 'valid/los'.*did you mean 'valid/loss'"):
        own(register.scheduler, lambda optimizer, epochs, steps: Watching(), watches="valid/los")


def test_each_parameter_is_in_the_group_of_the_first_pattern() -> None:
    named = [(name, torch.zeros(2)) for name in ("body.0.bias", "body.0.weight", "head.bias", "head.weight")]
    found = grouped(named, {"*.bias": {"weight_decay": 0}, "body.*": {"lr": 0.1}})
    names = [[next(name for name, one in named if one is p) for p in group.pop("params")] for group in found]
    assert names == [["body.0.bias", "head.bias"], ["body.0.weight"], ["head.weight"]]
    assert found == [{"name": "*.bias", "weight_decay": 0}, {"name": "body.*", "lr": 0.1}, {"name": "*"}]


def test_no_decay_is_of_parameters_of_one_dimension() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    shapes = [[p.ndim for p in group["params"]] for group in without_decay(model.named_parameters())]
    assert shapes == [[2], [1, 1, 1]]


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_groups_train_as_torchs_own_bit_for_bit(optimiser: str) -> None:
    make = maker(f"optim={optimiser}", "optim.lr=0.1", "optim.weight_decay=0.1", BIASES, model=PLAIN)
    runner, twin = make(), make()
    named = dict(twin.model.named_parameters())
    biases: dict[str, Any] = {
        "params": [p for name, p in named.items() if name.endswith("bias")],
        "weight_decay": 0,
        "lr": 0.01,
    }
    weights: dict[str, Any] = {"params": [p for name, p in named.items() if not name.endswith("bias")]}
    kind: Any = {"sgd": optim.SGD, "adam": optim.Adam, "adamw": optim.AdamW}[optimiser]
    optimizer = kind([biases, weights], lr=0.1, weight_decay=0.1, fused=True)
    for xb, yb in rows(twin):
        F.cross_entropy(twin.model(xb), yb).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    runner.train_epoch(0)
    assert same(weights_of(runner.model), weights_of(twin.model))


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("{*.bas: {lr: 1}}", "'*.bas' matches no parameter"),
        ("{*: {lr: 1}, *.bias: {lr: 2}}", "'*.bias' matches no parameter that no earlier pattern matches"),
        ("{*.bias: {wd: 0}}", "optim.groups.*.bias: unknown key"),
        ("{*.bias: {lr: -1.0}}", "optim.groups.*.bias.lr: -1.0 is not allowed"),
        ("{*.bias: {fused: false}}", "optim.groups.*.bias: unknown key"),
        ("all", "optim.groups: 'all' is not allowed"),
    ],
)
def test_groups_that_mean_nothing_are_refused(groups: str, expected: str) -> None:
    assert expected in refusal("optim=adamw", f"optim.groups={groups}")


def test_an_optimiser_without_groups_is_refused_them() -> None:
    assert "by_hand does not keep the groups" in refusal("optim=by_hand", "optim.groups=no_decay")


def test_one_cycle_keeps_the_rates_of_the_groups() -> None:
    runner = maker("optim=adamw", "optim.lr=0.1", BIASES, "scheduler=one_cycle", model=PLAIN)()
    params = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    groups: list[dict[str, Any]] = [{"params": params[:1], "lr": 0.01}, {"params": params[1:]}]
    twin = optim.AdamW(groups, lr=0.1)
    OneCycleLR(twin, max_lr=[0.01, 0.1], total_steps=6, pct_start=0.3, cycle_momentum=False)
    assert [one["lr"] for one in runner.optimizer.param_groups] == [one["lr"] for one in twin.param_groups]


def by_name(params: Any) -> optim.Optimizer:
    pairs = list(params)
    return optim.SGD([{"params": [p for name, p in pairs if "bias" in name]}], lr=0.1)


def test_an_optimiser_gets_names_where_it_declares_so(own: Own) -> None:
    assert [p.ndim for p in own(register.optim, by_name, named=True).optimizer.param_groups[0]["params"]] == [1, 1]


def test_one_that_unpacks_names_undeclared_is_refused_with_the_remedy(own: Own) -> None:
    with pytest.raises(ConfigError, match=r'with their names; declare @register\.optim\("mine", named=True\)'):
        own(register.optim, by_name)


class Accumulating(optim.SGD):
    """Steps each fourth time, by gradients that no checkpoint keeps."""

    count = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.count += 1
        if self.count % 4 == 0:
            super().step()

    def zero_grad(self, set_to_none: bool = True) -> None:  # torch's signature
        if self.count % 4 == 0:
            super().zero_grad(set_to_none)


def test_an_optimiser_that_keeps_gradients_is_refused_where_a_checkpoint_would_miss_them(
    own: Own, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"keeps gradients after zero_grad\(\).*accumulate=K"):
        own(register.optim, lambda params: Accumulating(params, lr=0.1), tmp_path)


def test_groups_go_on_bit_for_bit(tmp_path: Path) -> None:
    overrides = ("optim=adamw", BIASES, "scheduler=one_cycle", "limit_batches=2", "loader.valid_batch_size=10")
    assert different(maker(*overrides), tmp_path) == []
