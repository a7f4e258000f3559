"""Losses, metrics, optimisers, schedulers and transforms against torch and plain Python; the options of conf/."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from experiments import components
from experiments.config.registry import register
from experiments.errors import ConfigError
from experiments.training.torch_private import clearing, stepping
from tests.support.places import ROOT

CONF = ROOT / "conf"
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(7, 4, generator=GENERATOR)
LABELS = torch.tensor([0, 3, 1, 1, 2, 0, 3])
REALS = torch.randn(7, 4, generator=GENERATOR)
TARGETS = {"classes": LABELS, "reals": REALS}


def test_importing_the_package_registers_every_kind() -> None:
    assert components.__all__ == sorted(components.__all__)
    assert all(registry.names for registry in register)


# Losses and metrics


def loss(name: str, pred: Tensor, target: Tensor) -> float:
    value: Tensor = register.loss.bind(name, {})(pred, target)
    assert value.ndim == 0
    return value.item()


FUNCTIONS = [name for name in register.loss.names if inspect.isfunction(register.loss.get(name).factory)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_loss_is_a_scalar_mean_with_a_gradient(name: str) -> None:
    target = TARGETS["classes" if register.loss.get(name).metadata["targets"] == "classes" else "reals"]
    pred = LOGITS.clone().requires_grad_()
    function = register.loss.bind(name, {})
    function(pred, target).backward()
    assert pred.grad is not None
    twice = function(torch.cat([LOGITS, LOGITS]), torch.cat([target, target]))
    torch.testing.assert_close(twice, function(LOGITS, target))


def test_cross_entropy_is_torchs_own_and_the_formula() -> None:
    logits = LOGITS.tolist()
    plain = [math.log(sum(map(math.exp, row))) - row[y] for row, y in zip(logits, LABELS.tolist(), strict=True)]
    assert loss("cross_entropy", LOGITS, LABELS) == F.cross_entropy(LOGITS, LABELS).item()
    assert loss("cross_entropy", LOGITS, LABELS) == pytest.approx(sum(plain) / 7, rel=1e-6)


def test_nll_by_hand_is_torchs_own() -> None:
    log_probabilities = torch.log_softmax(LOGITS, dim=1)
    expected = F.nll_loss(log_probabilities, LABELS).item()
    assert loss("nll_by_hand", log_probabilities, LABELS) == pytest.approx(expected, rel=1e-6)


def test_mse_is_the_mean_square() -> None:
    pairs = zip(LOGITS.flatten().tolist(), REALS.flatten().tolist(), strict=True)
    squares = [(p - t) ** 2 for p, t in pairs]
    assert loss("mse", LOGITS, REALS) == pytest.approx(sum(squares) / len(squares), rel=1e-6)


def test_accuracy_counts_the_right_rows() -> None:
    found = register.metric.bind("accuracy", {})(LOGITS, LABELS)
    rows = zip(LOGITS.tolist(), LABELS.tolist(), strict=True)
    assert found.item() == sum(row.index(max(row)) == label for row, label in rows)


@pytest.mark.parametrize("name", [n for n in register.metric.names if "over" not in register.metric.get(n).metadata])
def test_a_metric_is_a_sum_over_rows(name: str) -> None:
    target = TARGETS[register.metric.get(name).metadata["targets"]]
    metric = register.metric.bind(name, {})
    parts = metric(LOGITS[:3], target[:3]) + metric(LOGITS[3:], target[3:])
    torch.testing.assert_close(parts, metric(LOGITS, target))


# Optimisers

TORCHS: dict[str, Any] = {
    "by_hand": lambda params: torch.optim.SGD(params, lr=0.5),
    "sgd": lambda params: torch.optim.SGD(params, lr=0.5, fused=True),
    "sgd_momentum": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, fused=True),
    "adam": lambda params: torch.optim.Adam(params, lr=1e-3, fused=True),
    "adamw": lambda params: torch.optim.AdamW(params, lr=1e-3, weight_decay=0.01, fused=True),
}


def option(group: str, name: str) -> dict[str, Any]:
    values = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def optimiser(params: list[Tensor], values: dict[str, Any]) -> Any:
    return register.optim.bind(values["name"], register.optim.own(values))(params)


def steps(optim: Any, params: list[Tensor], count: int = 5) -> list[Tensor]:
    """The parameters after so many steps down an uneven bowl."""
    for step in range(count):
        weights = torch.linspace(0.1, 1 + step, params[0].numel())
        ((params[0].flatten() * weights).square().sum() + params[1].sin().sum()).backward()  # type: ignore[no-untyped-call]
        optim.step()
        optim.zero_grad()
    return [p.detach().clone() for p in params]


def start() -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [
        torch.randn(5, 3, generator=generator).requires_grad_(),
        torch.randn(3, generator=generator).requires_grad_(),
    ]


@pytest.mark.parametrize("name", TORCHS)  # lbfgs: test_build_optimizer
def test_every_option_of_optim_moves_weights_as_torchs_own(name: str) -> None:
    ours, theirs = start(), start()
    found = steps(optimiser(ours, option("optim", name)), ours)
    expected = steps(TORCHS[name](theirs), theirs)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


PLAIN_STEPS = [name for name in register.optim.names if not register.optim.get(name).metadata.get("closure")]


@pytest.mark.parametrize("name", PLAIN_STEPS)
def test_an_optimiser_zeroes_gradients_and_goes_on_from_its_state(name: str) -> None:
    values = {key: value for key, value in register.optim.preset(name).items() if value != "???"}
    whole, half = start(), start()
    steps(optimiser(whole, values), whole, 1)
    optim = optimiser(half, values)
    steps(optim, half, 1)
    assert all(p.grad is None or not p.grad.any() for p in half)
    other = optimiser(half, values)
    other.load_state_dict(optim.state_dict())
    reference = start()
    assert all(map(torch.equal, steps(other, half, 2), steps_after_one(optimiser(reference, values), reference)))


def steps_after_one(optim: Any, params: list[Tensor]) -> list[Tensor]:
    steps(optim, params, 1)
    return steps(optim, params, 2)


@pytest.mark.parametrize("name", PLAIN_STEPS)
def test_the_runner_steps_as_an_optimiser_steps(name: str) -> None:
    values = {key: value for key, value in register.optim.preset(name).items() if value != "???"}
    params, others = start(), start()
    optim, other = optimiser(params, values), optimiser(others, values)
    step = stepping(optim)
    for _ in range(3):
        for p in (*params, *others):
            p.grad = torch.full_like(p, 0.1)
        step()
        other.step()
    assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))


def hook_before(optim: torch.optim.Optimizer, calls: list[str]) -> Any:
    return optim.register_step_pre_hook(lambda *_: calls.append("here"))


def hook_after(optim: torch.optim.Optimizer, calls: list[str]) -> Any:
    return optim.register_step_post_hook(lambda *_: calls.append("here"))


def hook_before_all(_: torch.optim.Optimizer, calls: list[str]) -> Any:
    return register_optimizer_step_pre_hook(lambda *_: calls.append("here"))


def hook_after_all(_: torch.optim.Optimizer, calls: list[str]) -> Any:
    return register_optimizer_step_post_hook(lambda *_: calls.append("here"))


@pytest.mark.parametrize("hook", [hook_before, hook_after, hook_before_all, hook_after_all])
def test_the_runner_calls_hooks_whenever_they_came(hook: Callable[[torch.optim.Optimizer, list[str]], Any]) -> None:
    optim, calls = torch.optim.SGD(start(), lr=0.1), list[str]()
    step = stepping(optim)
    step()
    handle = hook(optim, calls)
    step()
    handle.remove()
    step()
    assert calls == ["here"]


def test_the_runner_takes_a_step_that_is_put_in_place_of_an_optimisers_own() -> None:
    optim, calls = torch.optim.SGD(start(), lr=0.1), list[str]()
    step = stepping(optim)
    setattr(optim, "step", lambda: calls.append("here"))  # noqa: B010  # as torch's schedulers do
    step()
    assert calls == ["here"]


def test_the_runner_takes_a_step_that_is_wrapped_by_others() -> None:
    calls: list[str] = []
    torch.optim.SGD(start(), lr=0.1)  # torch wraps the class's step at its first optimiser

    class Counting(torch.optim.SGD):
        @functools.wraps(torch.optim.SGD.step)
        def step(self, closure: Any = None) -> Any:  # type: ignore[override]
            calls.append("here")
            return super().step(closure)

    stepping(Counting(start(), lr=0.1))()
    assert calls == ["here"]


@pytest.mark.parametrize("name", register.optim.names)
def test_the_runner_clears_what_an_optimiser_clears(name: str) -> None:
    values = {key: value for key, value in register.optim.preset(name).items() if value != "???"}
    params = start()
    for p in params:
        p.grad = torch.ones_like(p)
    clearing(optimiser(params, values))()
    assert all(p.grad is None or not p.grad.any() for p in params)


def test_the_runner_clears_a_group_that_is_added_in_the_middle() -> None:
    params = start()
    optim = torch.optim.SGD(params[:1], lr=0.1)
    clear = clearing(optim)
    optim.add_param_group({"params": params[1:]})
    params[1].grad = torch.ones_like(params[1])
    clear()
    assert params[1].grad is None


def test_the_runner_calls_an_optimisers_own_zero_grad() -> None:
    class Keeps(torch.optim.SGD):
        def zero_grad(self, set_to_none: bool = True) -> None:
            """Lets gradients gather."""

    params = start()
    params[0].grad = torch.ones_like(params[0])
    clearing(Keeps(params, lr=0.1))()
    assert params[0].grad is not None


def test_by_hand_leaves_a_weight_without_gradient_alone() -> None:
    p = torch.ones(2, requires_grad=True)
    optim = optimiser([p], {"name": "by_hand", "lr": 0.5})
    optim.step()
    optim.zero_grad()
    assert p.tolist() == [1, 1]


# Schedulers

EPOCHS, STEPS, LR = 3, 10, 0.5


def rates(name: str, calls: int, **arguments: Any) -> list[float]:
    optim = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler = register.scheduler.bind(name, arguments)(optim, EPOCHS, STEPS)
    found = []
    for _ in range(calls):
        found.append(optim.param_groups[0]["lr"])
        optim.step()
        scheduler.step()
    return found


def cosine_between(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2


def test_constant_is_no_scheduler() -> None:
    assert register.scheduler.bind("constant", {})(None, EPOCHS, STEPS) is None


@pytest.mark.parametrize("name", register.scheduler.names)
def test_a_scheduler_says_when_it_is_called(name: str) -> None:
    assert register.scheduler.get(name).metadata["per"] in ("step", "epoch")


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_is_half_a_cosine_over_all_steps(final: float) -> None:
    total = EPOCHS * STEPS
    expected = [cosine_between(LR, final, step / total) for step in range(total)]
    assert rates("cosine", total, final=final) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0.3, 0.5])
def test_one_cycle_goes_up_to_the_rate_and_down_again(warmup: float) -> None:
    total = EPOCHS * STEPS
    low, top = LR / 25, warmup * total - 1
    up = [cosine_between(low, LR, step / top) for step in range(total) if step <= top]
    down = [cosine_between(LR, low / 1e4, (step - top) / (total - 1 - top)) for step in range(total) if step > top]
    assert rates("one_cycle", total, warmup=warmup) == pytest.approx(up + down)


def test_one_cycle_refuses_a_warmup_of_a_single_step() -> None:
    with pytest.raises(ConfigError, match=r"^scheduler\.warmup: 0\.05 of 20 steps is a single step"):
        optim = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
        register.scheduler.bind("one_cycle", {"warmup": 0.05})(optim, 2, 10)


def test_step_multiplies_every_so_many_epochs() -> None:
    expected = [LR * 0.1 ** (epoch // 2) for epoch in range(7)]
    assert rates("step", 7, every=2, factor=0.1) == pytest.approx(expected)
