"""`device.graph`: a step that is captured and replayed is the step.

Without a card it is stood in for by what repeats the step on the graph's memory, where reading a number off a tensor
is an error, as it is in a capture. The graph itself is tried where there is a card.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import random
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses

from experiments import seeds
from experiments.components.metrics import accuracy
from experiments.components.optimizers import by_hand
from experiments.components.schedulers import cosine
from experiments.config.check import configured
from experiments.config.device import DeviceConfig
from experiments.config.registry import Component, register
from experiments.errors import ConfigError, TrainingError
from experiments.training import build, cuda_graph
from experiments.training.cuda_graph import WARM_UP, CudaCapture, GraphedStep
from experiments.training.meters import Sums
from experiments.training.precision import Autocast
from experiments.training.runner import Runner, weights_of
from tests.support.resuming import BASE, EPOCHS, SMALL, alike, different, maker, outcome, undisturbed
from tests.support.training import (
    BATCH,
    STEPS,
    fresh_model,
    make,
    needs_cuda,
    on_a_device,
    one_thread,  # noqa: F401  # a fixture of every test here
    replace_loss,
    same,
)
from tests.training.test_stops import BAD, OPTIMS, LossGoneBad, Optim, stop, weights_before

CPU = torch.device("cpu")
READING = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__")
# A plain Adam counts its steps on the CPU, and looks.
CAPTURABLE = {name: optim for name, optim in OPTIMS.items() if name != "adam"}
FULL = STEPS - 1  # batches of an epoch that are not smaller


@contextlib.contextmanager
def no_reads() -> Iterator[None]:
    """Reading a number off a tensor, for which an accelerator would have to be waited, is an error."""

    def read(*_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    with pytest.MonkeyPatch.context() as patch:
        for name in READING:
            patch.setattr(Tensor, name, read, raising=False)
        yield


class Repeating(CudaCapture):
    """Repeats the work in Python in place of a CUDA graph."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        yield

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            with no_reads():
                work()

        return replay


def graphed(runner: Runner) -> Runner:
    return with_capture(runner, Repeating())


def with_capture(runner: Runner, capture: Repeating) -> Runner:
    step, steered = on_a_device(runner).step, runner.scheduler is not None
    size = runner.train.batch_size
    runner.step = GraphedStep(step.forward, step.update, capture, batch_size=size, steered=steered)
    return runner


def test_a_runner_and_its_graph_are_gone_with_the_last_that_knows_them() -> None:
    runner = graphed(make())
    known = weakref.ref(runner), weakref.ref(runner.step)
    gc.disable()
    try:
        del runner
        assert [one() for one in known] == [None, None]
    finally:
        gc.enable()


def capture_of(runner: Runner) -> Repeating:
    assert isinstance(runner.step, GraphedStep) and isinstance(runner.step.capture, Repeating)
    return runner.step.capture


# Each comes to what the plain training comes to


@pytest.mark.parametrize("optim", CAPTURABLE.values(), ids=CAPTURABLE)
def test_with_every_optimiser_a_graphed_training_has_the_same_bits(optim: Optim) -> None:
    plain, other = on_a_device(make(optim)), graphed(make(optim))
    histories = [[figures["train/loss"] for figures in runner.fit(3).history] for runner in (plain, other)]
    assert histories[0] == histories[1] and same(weights_of(plain.model), weights_of(other.model))


def every_pair() -> list[tuple[str, str, str]]:
    """Each two of an optimiser, a scheduler and a precision together once; no step has code for all three."""
    optims = [name for name in register.optim.names if name not in ("by_hand", "lbfgs")]  # lbfgs decides in Python
    pairs = itertools.product(enumerate(optims), enumerate(register.scheduler.names))
    return [(optim, scheduler, ("fp32", "bf16", "fp16")[(i + j) % 3]) for (i, optim), (j, scheduler) in pairs]


@pytest.mark.parametrize(("optim", "scheduler", "precision"), every_pair())
def test_with_every_scheduler_and_precision_too(optim: str, scheduler: str, precision: str) -> None:
    settings = [f"optim={optim}", f"scheduler={scheduler}", f"device.precision={precision}", "loader.batch_size=4"]
    plain = maker(*settings, "max_grad_norm=0.5", *(["optim.momentum=0.9"] if optim == "sgd" else []))
    runner = graphed(plain())
    runner.fit(EPOCHS)
    assert alike(outcome(runner), undisturbed(lambda: on_a_device(plain())))
    assert capture_of(runner).replayed == 2 * 5 - WARM_UP


def test_a_graph_replays_full_batches_once_it_is_warm() -> None:
    runner = graphed(make())
    runner.fit(2)
    assert (capture_of(runner).captured, capture_of(runner).replayed) == (1, 2 * FULL - WARM_UP)


def test_a_graphed_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    plain = maker("optim=adam", "scheduler=one_cycle", "loader.batch_size=4")
    assert alike(outcome(fitted(graphed(plain()))), undisturbed(lambda: on_a_device(plain())))
    assert different(lambda: graphed(plain()), tmp_path) == []


def fitted(runner: Runner) -> Runner:
    runner.fit(EPOCHS)
    return runner


def test_what_a_step_gave_stays_when_the_next_is_replayed() -> None:
    runner, plain = graphed(make()), on_a_device(make())
    given = [(pred, loss) for _, _, pred, loss in runner.train_steps(0)]
    expected = [(pred, loss) for _, _, pred, loss in plain.train_steps(0)]
    assert alike(given, expected)


# What is not finite


@pytest.mark.parametrize("kind", ["nan", "gradient"])
@pytest.mark.parametrize("optim", CAPTURABLE.values(), ids=CAPTURABLE)
def test_a_bad_step_in_a_graph_leaves_the_weights_before_it(kind: str, optim: Optim) -> None:
    runner = graphed(make(optim, loss=LossGoneBad(kind)))
    told = f"the loss or a gradient is not finite at step {BAD} (epoch 1, batch 2); that update was not applied"
    assert stop(runner) == told
    assert same(weights_of(runner.model), weights_before(optim, BAD))


@pytest.mark.parametrize("at", range(STEPS))
def test_wherever_it_is_the_bad_step_is_told(at: int) -> None:
    runner = graphed(make(loss=LossGoneBad("nan", at=at, until=at + 1)))
    assert f"at step {at} (epoch 0, batch {at})" in stop(runner)
    assert same(weights_of(runner.model), weights_before(None, at))


def test_in_fp16_steps_that_overflow_are_left_out_of_a_graph_too() -> None:
    def training() -> Runner:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**26)
        return make(OPTIMS["fused sgd with momentum"], compute=Autocast(CPU, torch.float16), scaler=scaler)

    plain, other = training(), graphed(training())
    for runner in (plain, other):
        runner.fit(3)
    scalers = [runner.step.update.scaler for runner in (plain, other)]
    assert scalers[0] is not None and scalers[1] is not None
    assert scalers[0].state_dict() == scalers[1].state_dict()
    assert scalers[0].get_scale() < 2.0 ** (26 - WARM_UP) and same(weights_of(plain.model), weights_of(other.model))


# Within an epoch nothing is read


@pytest.mark.parametrize("optim", CAPTURABLE.values(), ids=CAPTURABLE)
@pytest.mark.parametrize("graph", [False, True], ids=["step by step", "graph"])
def test_on_a_device_nothing_is_read_within_an_epoch(optim: Optim, graph: bool) -> None:
    runner = on_a_device(make(optim, metrics={"accuracy": accuracy}, max_grad_norm=1.0))
    if graph:
        runner = graphed(runner)
        runner.fit(1)
    sums = Sums(runner.metrics)
    runner.progress.step = 0
    with no_reads():
        for _, yb, pred, loss in runner.train_steps(1):
            sums.add(pred, yb, loss)
    assert sums.rows == 50


def test_the_test_above_can_fail() -> None:
    with pytest.raises(RuntimeError, match="not permitted"):
        graphed(make(OPTIMS["adam"])).fit(1)
    with pytest.raises(RuntimeError, match="not permitted"), no_reads():
        list(make().train_steps(0))


# What cannot be captured


def test_what_torch_says_of_a_capture_that_fails_is_told() -> None:
    def loss(pred: Tensor, target: Tensor) -> Tensor:
        found = F.cross_entropy(pred, target)
        return found if found.isnan() else found * 1

    class Capturing(Repeating):
        def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
            try:
                with no_reads():
                    work()
            finally:
                raise RuntimeError("the capture was invalidated")  # as the end of a broken capture does

    runner = with_capture(make(loss=loss), Capturing())
    told = (
        "device.graph: the step cannot be captured: operation not permitted when stream is capturing. "
        "Set device.graph=false"
    )
    with pytest.raises(TrainingError) as caught:
        runner.fit(1)
    assert str(caught.value) == told


def test_the_optimiser_is_as_it_was_after_a_capture() -> None:
    runner = graphed(make(OPTIMS["fused adam"]))
    before = runner.optimizer.state_dict()["param_groups"]
    runner.fit(1)
    after = runner.optimizer.state_dict()["param_groups"]
    assert after == before and type(after[0]["lr"]) is float


def test_an_optimiser_reads_a_steered_rate_on_the_device_in_every_step() -> None:
    rates: list[list[float]] = []
    for place in (on_a_device, graphed):
        seen: list[Tensor] = []
        runner = make(OPTIMS["fused adam"])
        runner.scheduler, runner.step_scheduler_each = cosine(runner.optimizer, 2, STEPS), "step"
        place(runner).optimizer.register_step_pre_hook(
            lambda optimizer, *_, seen=seen: seen.append(torch.as_tensor(optimizer.param_groups[0]["lr"]).clone())
        )
        runner.fit(2)
        rates.append(torch.stack(seen).double().tolist())
    assert rates[1] == pytest.approx(rates[0], rel=1e-7) and len(set(rates[1])) == 2 * STEPS


def test_an_optimiser_is_capturable_while_it_is_captured() -> None:
    seen: list[bool] = []
    runner = graphed(make(OPTIMS["fused adam"]))
    runner.optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["capturable"]))
    runner.fit(1)
    assert seen == [False] * WARM_UP + [True] * (FULL - WARM_UP) + [False]


@pytest.mark.parametrize(("key", "value", "was"), [("momentum", 0.5, 0.9), ("lr", 0.2, 0.1)])
def test_settings_that_change_behind_a_graph_are_an_error(key: str, value: float, was: float) -> None:
    runner = graphed(make())
    runner.fit(1)
    runner.optimizer.param_groups[0][key] = value
    told = f"device.graph: the optimiser's {key} was {was} when its step was captured, and is {value} now"
    with pytest.raises(TrainingError, match=told):
        runner.fit(2)


@pytest.mark.parametrize("draw", [torch.rand, lambda _: np.random.random(), lambda _: random.random()])
def test_a_step_that_draws_from_the_cpus_generators_cannot_be_a_graph(draw: Callable[[int], Any]) -> None:
    def loss(pred: Tensor, target: Tensor) -> Tensor:
        draw(1)
        return F.cross_entropy(pred, target)

    runner = graphed(make(loss=loss, limit_batches=WARM_UP))
    runner.fit(1)  # on the CPU, those are the device's
    runner = graphed(make(loss=loss, limit_batches=WARM_UP))
    step = runner.step
    assert isinstance(step, GraphedStep)
    step.forward = replace(step.forward, device=torch.device("meta"))
    told = "device.graph: a step draws from the CPU's generators, whose numbers a graph would repeat"
    with pytest.raises(TrainingError, match=told):
        for number in range(WARM_UP):
            step(torch.ones(BATCH, 16), torch.zeros(BATCH, dtype=torch.long), number)


def faults(optimizer: Any, *, scaled: bool = False, **declared: bool) -> list[str]:
    component = Component("optimiser", "mine", type(optimizer), declared)
    return [str(fault) for fault in cuda_graph.faults(optimizer, component, scaled=scaled)]


def test_optimisers_whose_step_is_the_devices_can_be_captured() -> None:
    def params() -> list[Tensor]:
        return list(fresh_model().parameters())

    assert faults(by_hand(params()), capturable=True) == faults(torch.optim.Adam(params(), capturable=True)) == []
    assert faults(torch.optim.SGD(params(), fused=True)) == []
    assert faults(torch.optim.SGD(params(), fused=True), scaled=True) == []
    told = "device.graph: optim mine is neither fused nor capturable, so its step has work for the CPU. Set "
    assert faults(torch.optim.SGD(params())) == [f"{told}optim.fused=true"]
    assert faults(torch.optim.Rprop(params())) == [f"{told}device.graph=false"]
    told = "device.graph: optim mine is not fused, which fp16 needs in a graph, so its step has work for the CPU. Set "
    assert faults(torch.optim.Adam(params(), capturable=True), scaled=True) == [f"{told}optim.fused=true"]
    told = "device.graph: optim mine is not a torch optimiser, and a graph does not repeat Python. Set "
    assert faults(object()) == [f"{told}device.graph=false"]


def test_a_debugger_is_refused_with_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(ConfigError, match="device.graph: a debugger cannot stop within a graph"):
        configured([*BASE, "device=cuda", "device.graph=true", "debug=step"])


# On a card


def on_the_card(*overrides: str) -> Runner:
    settings = [*BASE, "model=mlp", "model.width=6", "device=cuda", "loader.batch_size=4", *overrides]
    root = configured(settings).root
    streams = seeds.derive(root.seed, {})
    model = build.build_model(root, SMALL.spec, streams)
    device = torch.device("cuda", 0)
    return build.assemble(root, splits=SMALL, model=model, device=device, seeds=streams, folder=None)


CARD = [
    ["optim=sgd", "optim.momentum=0.9"],
    ["optim=adam", "scheduler=one_cycle"],
    ["optim=adamw", "scheduler=step", "max_grad_norm=0.5"],
    ["optim=by_hand"],
    ["optim=sgd", "device.precision=bf16"],
    ["optim=sgd", "optim.momentum=0.9", "device.precision=fp16", "scheduler=cosine"],
]


@needs_cuda
@pytest.mark.parametrize("settings", CARD, ids=" ".join)
def test_on_a_card_a_graphed_training_is_the_training(settings: list[str]) -> None:
    plain, graph = (on_the_card("epochs=4", *settings, *more).fit(4).history for more in ([], ["device.graph=true"]))
    for one, other in zip(plain, graph, strict=True):
        assert other["train/loss"] == pytest.approx(one["train/loss"], rel=1e-4)
        assert other["valid/loss"] == pytest.approx(one["valid/loss"], rel=1e-4)


@needs_cuda
def test_on_a_card_dropout_is_drawn_anew_in_each_replay() -> None:
    runner = on_the_card("device.graph=true", "model.dropout=0.5", "optim.lr=1e-9")
    runner.fit(4)
    losses = {figures["train/loss"] for figures in runner.history}
    assert len(losses) == 4


@needs_cuda
def test_on_a_card_a_graphed_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    make = lambda: on_the_card("device.graph=true", "model.dropout=0.5", "optim=adam", "scheduler=one_cycle")  # noqa: E731
    assert different(make, tmp_path) == []


@needs_cuda
def test_on_a_card_a_bad_step_in_a_graph_is_told_and_masked() -> None:
    runner = on_the_card("device.graph=true", "transforms=none")
    counted, plain = torch.zeros((), device="cuda"), runner.loss

    def loss(pred: Tensor, target: Tensor) -> Tensor:
        if pred.requires_grad:
            counted.add_(1)
        return plain(pred, target) * torch.where(counted == 8, float("nan"), 1.0)

    replace_loss(runner, loss)
    with pytest.raises(TrainingError, match=r"not finite at step 7 \(epoch 1, batch 2\)"):
        runner.fit(3)
    assert all(value.isfinite().all() for value in weights_of(runner.model).values())


@needs_cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@pytest.mark.parametrize("graph", ["false", "true"])
def test_on_a_card_no_step_waits(graph: str) -> None:
    runner = on_the_card(f"device.graph={graph}", "optim=adam", "scheduler=one_cycle", "max_grad_norm=1.0")
    runner.fit(1)
    sums, runner.progress.step = Sums(runner.metrics), 0
    steps = runner.train_steps(1)
    first = next(steps)  # the epoch's order goes to the card before it
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _, yb, pred, loss in [first, *steps]:
            sums.add(pred, yb, loss)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_cuda
def test_on_a_card_a_loss_that_reads_is_told() -> None:
    runner = on_the_card("device.graph=true")
    plain = runner.loss

    def loss(pred: Tensor, target: Tensor) -> Tensor:
        found = plain(pred, target)
        return found * (2.0 if found.item() < 0 else 1.0)

    replace_loss(runner, loss)
    with pytest.raises(TrainingError, match="device.graph: the step cannot be captured: "):
        runner.fit(2)


@needs_cuda
def test_on_a_card_a_convolution_is_float32s() -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(8, 16, 20, 20, generator=generator), torch.randn(16, 16, 3, 3, generator=generator)
    exact = F.conv2d(x.double(), w.double())
    from experiments.training import device as devices

    with devices.settings_kept():
        devices.set_up(DeviceConfig(name="cuda"), deterministic=False)
        apart = (F.conv2d(x.cuda(), w.cuda()).cpu() - exact).abs().max()
    assert apart < 1e-4


@needs_cuda
def test_on_a_card_the_capture_does_no_work() -> None:
    counted = torch.zeros((), device="cuda")
    capture = CudaCapture(torch.device("cuda", 0))
    with capture.aside():
        counted.add_(1)

    def work() -> None:
        counted.add_(1)

    replay = capture(work)
    assert counted.item() == 1
    replay()
    assert counted.item() == 2
