"""The switches of the device group: precision and compile against the plain training, and what is refused.

`device.graph` is in test_cuda_graph.py.
"""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from experiments import parity
from experiments.config.device import DeviceConfig
from experiments.config.device import faults as faults_of
from experiments.errors import ConfigError
from experiments.runs import load
from experiments.runs.evaluation import evaluate
from experiments.runs.find import run_in
from experiments.runs.fingerprint import identity
from experiments.runs.reading import Reader
from experiments.tracking.record import RunRecord, Start
from experiments.training import device as devices
from experiments.training.precision import Autocast
from experiments.training.result import Metrics
from experiments.training.runner import Runner, weights_of
from tests.support import raw_journal
from tests.support.resuming import alike, checked, different, gone_on, maker, outcome, undisturbed
from tests.support.scripts import exported, measured, run_script
from tests.support.training import (
    STEPS,
    fresh_model,
    make,
    on_a_device,
    one_thread,  # noqa: F401  # a fixture of every test here
    same,
)
from tests.training.test_stops import BAD, OPTIMS, LossGoneBad, stop

CPU = torch.device("cpu")
QUIET = ["tracking=none", "figures=false", "device=cpu", "optim.lr=0.1", "epochs=2"]
SMALL = [*QUIET, "dataset=synthetic", "dataset.train=50", "dataset.valid=21", "loader.batch_size=8", "model=mlp"]
# A bfloat16 has 8 bits of mantissa, a float16 has 11; a loss is a mean over many numbers.
TOLERANCES = {"bf16": 2e-2, "fp16": 2e-3}


def losses(history: Sequence[Metrics]) -> list[float]:
    return [value for figures in history for name, value in figures.items() if name.endswith("/loss")]


def trained(*overrides: str, base: Sequence[str] = SMALL) -> list[float]:
    return losses(experiments.run([*base, *overrides]).history)


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        experiments.run([*SMALL, *overrides])
    return str(caught.value)


def folder_of(*overrides: str) -> Path:
    folder = experiments.run([*SMALL, *overrides]).folder
    assert folder is not None
    return folder


# Precision


@pytest.mark.parametrize(("precision", "model"), list(zip(TOLERANCES, ("logistic", "cnn_adaptive"), strict=True)))
def test_in_half_precision_the_curve_is_close_and_not_the_same(precision: str, model: str, workplace: Path) -> None:
    digits = [*QUIET, "dataset=mnist_5k", "limit_batches=20", f"model={model}"]
    plain, half = trained(base=digits), trained(f"device.precision={precision}", base=digits)
    assert half != plain and half == pytest.approx(plain, rel=TOLERANCES[precision])


def test_what_a_half_precision_forward_gives_is_float32() -> None:
    compute = Autocast(CPU, torch.bfloat16)
    model = fresh_model()
    with torch.autocast("cpu", torch.bfloat16):
        inside = model(torch.ones(2, 16))
    outside = compute(model, torch.ones(2, 16))
    assert inside.dtype == torch.bfloat16 and outside.dtype == torch.float32 and torch.equal(inside.float(), outside)
    assert compute(lambda: "no tensor") == "no tensor"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_an_evaluation_of_a_run_has_its_precision(precision: str, workplace: Path) -> None:
    folder = folder_of(f"device.precision={precision}")
    history = raw_journal.history(folder)
    assert evaluate(folder) == {name: value for name, value in history[-1].items() if name.startswith("valid/")}
    assert evaluate(folder, ["device.precision=fp32"])["valid/loss"] != history[-1]["valid/loss"]


def test_what_reads_pictures_has_the_runs_precision_and_no_graph(workplace: Path, monkeypatch: Any) -> None:
    quick = ["tracking=none", "figures=false", "device=cpu", "epochs=1", "device.precision=bf16"]
    folder = experiments.run(["dataset=digits", "model=mlp", *quick]).folder
    assert folder is not None
    on_a_card = ["dataset=digits", "model=mlp", "device=cuda", "device.index=1", "device.graph=true"]
    on_a_card += ["device.compile=true", "device.precision=bf16"]
    monkeypatch.setattr("experiments.runs.load.run_in", lambda folder: replace(run_in(folder), overrides=on_a_card))
    found = Reader(folder).root.device
    assert (found.name, found.index, found.precision, found.compile, found.graph) == ("cpu", None, "bf16", False, False)
    assert not experiments.load(folder).training


def test_a_run_in_tf32_is_read_in_fp32_where_there_is_no_card(monkeypatch: Any) -> None:
    run = RunRecord(folder=Path(), start=Start(params={"device.precision": "tf32"}))
    monkeypatch.setattr("experiments.runs.load.run_in", lambda _folder: run)
    assert load.here(Path()) == [*load.HERE, "device.precision=fp32"]
    old = RunRecord(folder=Path())  # from before there was a precision
    monkeypatch.setattr("experiments.runs.load.run_in", lambda _folder: old)
    assert load.here(Path()) == [*load.HERE, "device.precision=fp32"]


FP16_SCRIPTS = [
    ["optim=sgd_momentum", "max_grad_norm=0.5"],
    ["optim=adam", "optim.lr=0.01", "scheduler=one_cycle", "transforms=normalize"],
    ["model=cnn_adaptive", "optim=sgd_momentum", "limit_batches=3"],
]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # the script's, whose first step overflows
@pytest.mark.parametrize(
    ("precision", "settings"), [("bf16", FP16_SCRIPTS[0]), *(("fp16", settings) for settings in FP16_SCRIPTS)]
)
def test_the_script_of_a_half_precision_run_has_its_losses(
    precision: str, settings: list[str], workplace: Path
) -> None:
    overrides = [*SMALL, *settings, f"device.precision={precision}"]
    script = exported(overrides, workplace)
    text = script.read_text(encoding="utf-8")
    assert "torch.autocast(" in text and ("GradScaler" in text) == (precision == "fp16")
    assert run_script(script, "rows.npz") == measured(experiments.run(overrides))


def test_a_script_says_how_it_computes_float32_on_a_card(workplace: Path) -> None:
    def lines(*overrides: str) -> list[str]:
        text = exported([*SMALL, *overrides], workplace).read_text(encoding="utf-8")
        return [line for line in text.splitlines() if "fp32_precision" in line]

    conv, rnn = (f'torch.backends.cudnn.{operation}.fp32_precision = "ieee"' for operation in ("conv", "rnn"))
    assert lines() == [] and lines("device=auto") == [conv, rnn]


def test_a_script_says_that_it_runs_step_by_step(workplace: Path) -> None:
    text = exported([*SMALL, "device.compile=true"], workplace).read_text(encoding="utf-8")
    assert "Without device.compile, so the last bits of its losses may be others." in text


def test_two_precisions_are_told_apart_and_each_is_itself(workplace: Path) -> None:
    plain, half = SMALL, [*SMALL, "device.precision=bf16"]
    assert parity.compare(half, half, steps=4).verdict == "identical"
    verdict = parity.compare(plain, half, steps=4)
    assert verdict.verdict == "differs" and verdict.found is not None and verdict.found.kind == "loss"
    assert parity.compare(plain, half, steps=4, tolerance=0.05).verdict == "equal"


@pytest.mark.parametrize("optim", ["sgd", "adam"])
def test_an_fp16_training_goes_on_bit_for_bit(optim: str, tmp_path: Path) -> None:
    momentum = ["optim.momentum=0.9"] if optim == "sgd" else []
    make = maker("device.precision=fp16", f"optim={optim}", "limit_batches=2", "loader.valid_batch_size=10", *momentum)
    assert different(make, tmp_path) == []


def test_without_the_scalers_state_it_would_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = maker("device.precision=fp16", "optim=sgd")
    expected = undisturbed(make)
    monkeypatch.setattr(torch.amp.GradScaler, "load_state_dict", lambda *_: None)
    assert not alike(outcome(gone_on(make, ("batch", 4), tmp_path)), expected)


def in_fp16(init_scale: float = 2.0**16) -> dict[str, Any]:
    return {"compute": Autocast(CPU, torch.float16), "scaler": torch.amp.GradScaler("cpu", init_scale=init_scale)}


Place = Callable[[Runner], Runner]
PLACES: dict[str, Place] = {"on the cpu": lambda runner: runner, "on a device": on_a_device}
TOO_LARGE = 2.0**22  # this training's gradients overflow in its first steps


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("optim", [optim for name, optim in OPTIMS.items() if name != "by hand"])
def test_a_step_whose_scaled_gradients_overflow_is_left_out(place: Place, optim: Any) -> None:
    runner = place(make(optim, limit_batches=1, **in_fp16(TOO_LARGE)))
    runner.fit(1)
    assert (scaler := runner.step.update.scaler) is not None and scaler.get_scale() == TOO_LARGE / 2
    assert same(weights_of(runner.model), weights_of(fresh_model()))


@pytest.mark.parametrize("name", [name for name in OPTIMS if name != "by hand"])
def test_after_steps_that_overflow_it_trains_as_if_they_had_not_been(name: str) -> None:
    here, there = (place(make(OPTIMS[name], **in_fp16(TOO_LARGE))) for place in PLACES.values())
    for runner in (here, there):
        assert all(figures["valid/loss"] < 1.2 for figures in runner.fit(3).history)
        assert (scaler := runner.step.update.scaler) is not None and scaler.get_scale() < TOO_LARGE
    assert same(weights_of(here.model), weights_of(there.model))


def test_a_scheduler_may_step_where_the_first_update_is_left_out() -> None:
    runner = maker("device.precision=fp16", "scheduler=one_cycle", "optim=sgd")()
    scaler = runner.step.update.scaler
    assert scaler is not None
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**40})
    runner.fit(1)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
def test_a_loss_that_is_not_finite_stops_an_fp16_training_too(place: Place, max_grad_norm: float | None) -> None:
    optim = OPTIMS["fused sgd with momentum"]
    good = make(optim, max_grad_norm=max_grad_norm, **in_fp16())
    for epoch in range(2):
        for number, _ in enumerate(good.train_steps(epoch)):
            if epoch * STEPS + number == BAD - 1:
                expected = weights_of(good.model)
        good.progress.step = 0
    runner = place(make(optim, loss=LossGoneBad("nan"), max_grad_norm=max_grad_norm, **in_fp16()))
    told = f"the loss or a gradient is not finite at step {BAD} (epoch 1, batch 2); that update was not applied"
    assert stop(runner) == told
    assert same(weights_of(runner.model), expected)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_gradients_are_clipped_after_they_are_unscaled(place: Place) -> None:
    ends = []
    for scale in (1.0, 2.0**10):
        runner = place(make(OPTIMS["sgd"], max_grad_norm=0.01, **in_fp16(scale)))
        runner.fit(1)
        ends.append(torch.cat([value.flatten() for value in weights_of(runner.model).values()]))
    begin = torch.cat([value.flatten() for value in weights_of(fresh_model()).values()])
    assert torch.allclose(ends[0], ends[1], atol=1e-5) and (ends[0] - begin).norm() <= 1.001 * STEPS * 0.1 * 0.01


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_gradients_that_overflow_at_every_scale_end_an_fp16_training(place: Place) -> None:
    runner = place(make(loss=LossGoneBad("gradient", at=0, until=1000), **in_fp16()))
    assert stop(runner, epochs=10).startswith("fp16 cannot hold the gradients: they overflow at every scale, down to ")
    assert same(weights_of(runner.model), weights_of(fresh_model()))


def test_on_a_card_float32_is_float32_and_afterwards_as_before() -> None:
    before = devices._fp32()
    with devices.settings_kept():
        devices.set_up(DeviceConfig(name="cuda"), deterministic=False)
        assert set(devices._fp32()) == {"ieee"}
        devices.set_up(DeviceConfig(name="cuda", precision="tf32"), deterministic=False)
        assert set(devices._fp32()) == {"tf32"}
    assert devices._fp32() == before


def test_without_a_card_the_settings_of_cards_are_left_alone() -> None:
    before = devices._fp32()
    devices.set_up(DeviceConfig(name="cpu"), deterministic=False)
    assert devices._fp32() == before


FAULTS = """
import resource, sys
import experiments
from experiments.training.runner import Runner
counts, run_epoch = [], Runner.run_epoch
def counted(runner, epoch):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    figures = run_epoch(runner, epoch)
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return figures
Runner.run_epoch = counted
experiments.run(sys.argv[1:])
print(sorted(counts)[len(counts) // 2])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what other C libraries keep is their own")
def test_what_a_batch_frees_is_kept_for_the_next_one(workplace: Path) -> None:
    training = ["model=logistic", "dataset=synthetic", "dataset.train=60000", "epochs=5", *QUIET[:3]]
    command = [sys.executable, "-c", FAULTS, *training]
    told = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=True, timeout=120)
    # Memory given back costs many page faults at each batch; by luck of its layout the library may keep it unasked.
    assert int(told.stdout.splitlines()[-1]) < 60_000 // 64


# What counts as another training


def keys_of(*overrides: str) -> set[str]:
    return set(identity(checked(*overrides), digest="", seeds={}, device=CPU, init=None))


def test_a_switch_at_its_default_is_no_part_of_the_identity() -> None:
    plain = keys_of("model=mlp")
    assert not any(key.startswith("device.") for key in plain)
    assert keys_of("model=mlp", "device.precision=bf16") - plain == {"device.precision"}
    assert keys_of("model=mlp", "device.compile=true") - plain == {"device.compile"}
    assert keys_of("model=mlp", "device.threads=3") == plain


def test_a_run_does_not_go_on_in_another_precision(workplace: Path) -> None:
    folder = folder_of("epochs=1")
    with pytest.raises(ConfigError, match="device.precision: 'nothing' then, 'bf16' now"):
        experiments.api.resume(folder, ["epochs=2", "device.precision=bf16"])


# What is refused


REFUSED = {
    "device.precision=half": "device.precision: 'half' is not allowed: it should be 'fp32', 'tf32', 'bf16' or 'fp16'",
    "device.compile=maybe": "device.compile: 'maybe' is not allowed",
    "device.precision=tf32": (
        "device.precision: tf32 is not supported on cpu, only on NVIDIA's cards; use fp32, or bf16 for speed"
    ),
    "device.graph=true": (
        "device.graph: a CUDA graph needs a CUDA card, but the device is cpu; set device.graph=false"
    ),
    "device.precision=fp16 optim=by_hand": (
        "device.precision: fp16 scales gradients, which needs a torch optimiser; by_hand is not one. bf16 works without"
    ),
    "device.compile=true model=logistic_tensors loss=nll_by_hand": (
        "device.compile: torch.compile needs an nn.Module; model logistic_tensors is not one. Set device.compile=false"
    ),
}


@pytest.mark.parametrize(("overrides", "told"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_is_one_message(overrides: str, told: str, workplace: Path) -> None:
    assert refusal(*overrides.split()).startswith(told)
    assert not list(workplace.glob("outputs/runs/*/*"))


def faults(name: str, **settings: Any) -> list[str]:
    return [str(fault) for fault in faults_of(DeviceConfig(name=name, **settings))]  # type: ignore[arg-type]


def test_an_apple_gpu_has_bf16_and_no_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.setattr("torch.backends.mps.is_macos_or_newer", lambda *_: True)
    assert faults("mps", precision="bf16") == []
    told = "device.precision: fp16 is not supported on mps, as torch does not scale gradients there; use fp32 or bf16"
    assert faults("mps", precision="fp16") == [told]
    monkeypatch.setattr("torch.backends.mps.is_macos_or_newer", lambda *_: False)
    told = "device.precision: bf16 is not supported on mps before macOS 14; use fp32"
    assert faults("mps", precision="bf16") == [told]


def test_an_old_card_has_neither_tf32_nor_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _device: (7, 5))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _device: "Old")
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *, including_emulation: including_emulation)
    monkeypatch.setattr("torch.version.cuda", "13.0")
    for precision in ("tf32", "bf16"):
        told = f"device.precision: the card Old has no {precision}; use fp32 or fp16"
        assert faults("cuda", precision=precision) == [told]
    assert faults("cuda", precision="fp16") == faults("cuda", graph=True) == []


# Compile: dynamo without the compiler behind it, which takes a minute; that one is a slow test


def counters() -> Any:
    """Dynamo's own; imported late, since that takes a second."""
    from torch._dynamo.utils import counters

    return counters


@contextlib.contextmanager
def compiler(backend: Any) -> Iterator[None]:
    real = torch.compile
    torch._dynamo.reset()
    counters().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.compile", lambda model, **options: real(model, backend=backend, **options))
        yield
    torch._dynamo.reset()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_model_trains_alike_with_one_graph_for_each_mode(precision: str, workplace: Path) -> None:
    plain = trained(f"device.precision={precision}")
    with compiler("eager"):
        assert trained(f"device.precision={precision}", "device.compile=true") == plain
        assert counters()["stats"]["unique_graphs"] == 2


def test_a_tenth_training_in_a_process_is_still_compiled(workplace: Path) -> None:
    with compiler("eager"):
        for width in range(3, 13):
            counters().clear()
            trained("device.compile=true", f"model.width={width}", "epochs=1")
            assert counters()["stats"]["unique_graphs"] == 2


def test_compiled_trainings_can_be_set_side_by_side(workplace: Path) -> None:
    both = [*SMALL, "device.compile=true"]
    with compiler("eager"):
        assert parity.compare(both, both, steps=4).verdict == "identical"
        assert parity.compare(both, SMALL, steps=4).verdict == "identical"


@pytest.mark.long
def test_a_compiled_model_has_the_names_it_had_and_goes_on(tmp_path: Path) -> None:
    with compiler("eager"):
        make = maker("device.compile=true", "optim=adam")
        assert list(weights_of(make().model)) == list(weights_of(maker()().model))
        assert alike(outcome(gone_on(make, ("batch", 4), tmp_path)), undisturbed(make))


def test_what_the_compiler_cannot_do_is_one_message(workplace: Path) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no C++ compiler is found\nmore of it")

    with compiler(broken):
        told = refusal("device.compile=true")
    assert told.startswith("device.compile: torch cannot compile the model here: ") and "\n" not in told
    assert "no C++ compiler is found" in told and told.endswith(". Set device.compile=false")
    assert not list(workplace.glob("outputs/runs/*/*"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, where it loads its compiler
@pytest.mark.parametrize("model", ["mlp", "cnn_adaptive"])
def test_with_torchs_own_compiler_the_curve_is_close(model: str, workplace: Path) -> None:
    counters().clear()
    plain, compiled = trained(f"model={model}"), trained(f"model={model}", "device.compile=true")
    assert compiled == pytest.approx(plain, rel=1e-4)
    assert counters()["stats"]["unique_graphs"] == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, where it loads its compiler
def test_without_a_c_compiler_it_is_one_message(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    told = refusal("device.compile=true", "model=cnn_adaptive")
    assert told.startswith("device.compile: ") and "compiler" in told and "\n" not in told
