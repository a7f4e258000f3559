"""`hydra/launcher=batched`: jobs that are trained together are runs of their own, and each ends as it would alone."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from experiments.config import check
from experiments.runs.find import run_in
from hydra_plugins.experiments_batched._plan import in_ranges
from tests.support import raw_journal
from tests.support.commands import EPOCHS, STEPS, came_to, command, resumed, same_run, status
from tests.support.stacked import at_any_gain, in_stack, killed_at, killed_in_save, swept
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

JOBS = ("optim.lr=0.001,0.01", "seed=0,1,2")
NUMBERS = [*map(str, range(6))]


def losses(folder: Path) -> list[float]:
    return [line["values"]["valid/loss"] for line in raw_journal.read(folder) if "valid/loss" in line.get("values", {})]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "sweep"
    done = swept(folder, *JOBS)
    assert done.code == 0, done
    assert "trained together" in done.out
    return folder


def test_each_job_is_a_run_of_its_own(whole: Path) -> None:
    for number in NUMBERS:
        run = run_in(whole / number)
        assert run.status == "FINISHED" and len(run.history) == EPOCHS
        assert run.start.identity["device.batched"] == "3x2"
        assert (whole / number / "weights.pt").is_file()


def test_each_job_comes_to_what_it_comes_to_alone(whole: Path, tmp_path: Path) -> None:
    done = swept(tmp_path / "alone", *JOBS, "hydra/launcher=basic")
    assert done.code == 0, done
    for number in NUMBERS:
        assert losses(whole / number) == pytest.approx(losses(tmp_path / "alone" / number), rel=1e-3)


def test_a_run_of_a_stack_is_none_of_a_single_one(whole: Path, tmp_path: Path) -> None:
    swept(tmp_path / "alone", *JOBS, "hydra/launcher=basic")
    for number in NUMBERS:
        assert run_in(whole / number).run_key != run_in(tmp_path / "alone" / number).run_key


@pytest.mark.parametrize("step", [1, STEPS + 2, 2 * STEPS + STEPS])
def test_a_killed_sweep_resumes_to_the_same_bits(step: int, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    assert swept(folder, *JOBS, before=killed_at(step)).code == -signal.SIGKILL
    done = resumed(folder, before=at_any_gain)
    assert done.code == 0, done
    assert all(same_run(folder / number, whole / number) for number in NUMBERS)


@pytest.mark.parametrize("saved", [2, len(NUMBERS) + 3, len(NUMBERS) + 4])
def test_a_sweep_killed_while_its_runs_are_saved_resumes_to_the_same_bits(
    saved: int, whole: Path, tmp_path: Path
) -> None:
    """Some are an epoch ahead of others then, also of those that share their batches."""
    folder = tmp_path / "sweep"
    assert swept(folder, *JOBS, before=killed_in_save(saved)).code == -signal.SIGKILL
    assert resumed(folder, before=at_any_gain).code == 0
    assert all(same_run(folder / number, whole / number) for number in NUMBERS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_saves_each_run_and_resumes_to_the_same_bits(number: int, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    done = swept(folder, *JOBS, before=lambda: in_stack(STEPS + 2, lambda: signal.raise_signal(number)))
    assert done.code == (130 if number == signal.SIGINT else 143), done
    assert {status(folder / number) for number in NUMBERS} == {"KILLED"}
    assert all([*(folder / number / "checkpoints").glob(f"last-00001-{2:06}-*")] for number in NUMBERS)
    assert resumed(folder, before=at_any_gain).code == 0
    assert all(same_run(folder / number, whole / number) for number in NUMBERS)


def test_a_second_signal_ends_a_stack_within_its_step_and_saves_nothing(whole: Path, tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "sweep"
    assert swept(folder, *JOBS, before=lambda: in_stack(STEPS + 2, twice)).code == 130
    assert {status(folder / number) for number in NUMBERS} == {"KILLED"}
    assert {state.name[:17] for state in folder.glob("*/checkpoints/last-*")} == {"last-00001-000000"}
    assert resumed(folder, before=at_any_gain).code == 0
    assert all(same_run(folder / number, whole / number) for number in NUMBERS)


def test_steps_between_saved_states_change_nothing(whole: Path, tmp_path: Path) -> None:
    assert swept(tmp_path / "sweep", *JOBS, "checkpoint.every_steps=3").code == 0
    assert all(same_run(tmp_path / "sweep" / number, whole / number) for number in NUMBERS)


def test_a_state_is_saved_within_an_epoch_when_its_time_has_come(tmp_path: Path) -> None:
    swept(tmp_path / "sweep", *JOBS, "checkpoint.every_seconds=1e-9", before=killed_at(STEPS + 3))
    for number in NUMBERS:
        assert list((tmp_path / "sweep" / number / "checkpoints").glob(f"last-00001-{2:06}-*"))


def test_a_job_that_was_begun_in_a_stack_resumes_alone_to_the_same_bits(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    swept(folder, *JOBS, before=killed_at(STEPS + 2))
    assert resumed(folder / "4").code == 0
    assert same_run(folder / "4", whole / "4")


def test_a_job_that_is_not_finite_fails_alone(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    done = swept(folder, "optim.lr=0.001,1e30", "seed=0,1,2", "optim=sgd")
    harmless = tmp_path / "harmless"
    assert swept(harmless, "optim.lr=0.001,0.002", "seed=0,1,2", "optim=sgd").code == 0
    assert done.code == 1 and "trained together" in done.out
    assert [status(folder / number) for number in NUMBERS] == ["FINISHED"] * 3 + ["FAILED"] * 3
    assert "not finite at step" in raw_journal.summary(folder / "4")["reason"]
    assert all(same_run(folder / number, harmless / number) for number in NUMBERS[:3])


def test_jobs_of_two_models_and_two_batch_sizes_are_four_stacks(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    done = swept(folder, "optim.lr=0.001,0.01,0.1", "model.width=4,6", "loader.batch_size=4,8", "epochs=1")
    assert done.code == 0, done
    assert done.out.count("trained together") == 4
    assert done.out.count("FINISHED") == 12
    assert set(json.loads((folder / "stacks.json").read_text()).values()) == {"1x3"}


ALONE = {
    "callbacks=ema": "the callback Ema acts after each step",
    "accumulate=2": "accumulate=2 takes a step in parts",
    "device.precision=bf16": "device.precision=bf16",
    "optim=lbfgs": "step supervised is one of its own",
}


@pytest.mark.parametrize("setting", ALONE)
def test_what_cannot_be_stacked_is_trained_one_after_the_other_and_says_why(setting: str, tmp_path: Path) -> None:
    done = swept(tmp_path / "sweep", "seed=0,1", setting, "epochs=1")
    assert done.code == 0, done
    assert f"jobs 0, 1 trained one after the other: {ALONE[setting]}" in done.out
    assert {status(tmp_path / "sweep" / number) for number in "01"} == {"FINISHED"}


OWN = """
import torch
from torch import nn
from experiments import register

@register.model("by_values", input="flat")
class ByValues(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.layer = nn.Linear(data.features, data.outputs)
    def forward(self, xb):
        out = self.layer(xb)
        return out * 2 if float(out.detach().mean()) > 0 else out

@register.model("drawing", input="flat")
class Drawing(ByValues):
    def forward(self, xb):
        return self.layer(xb + 0.1 * torch.randn_like(xb)) if self.training else self.layer(xb)

@register.loss("tempered", targets="classes")
def tempered(pred, target, *, sharpness: float = 1.0):
    return nn.functional.cross_entropy(pred * sharpness, target)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(tmp_path / "own.py"))


PLAIN = ("dataset=digits", "limit_batches=2", "optim.lr=0.01", "epochs=1", "figures=false", "tracking=none")


@pytest.mark.parametrize("model", ["by_values", "drawing"])
def test_a_model_that_vmap_cannot_take_is_trained_one_after_the_other(model: str, own: None, tmp_path: Path) -> None:
    launched = ("-m", "hydra/launcher=batched", *PLAIN, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    done = command(*launched, "seed=0,1", f"model={model}", before=at_any_gain)
    assert done.code == 0, done
    assert "jobs 0, 1 trained one after the other: torch.func.vmap cannot stack them" in done.out


def test_a_number_of_a_loss_may_differ_in_a_stack(own: None, tmp_path: Path) -> None:
    given = ("loss=tempered", "loss.sharpness=0.5,1.0,2.0", "seed=0")
    done = swept(tmp_path / "sweep", *given)
    assert done.code == 0, done
    assert "jobs 0 to 2 trained together" in done.out
    assert swept(tmp_path / "alone", *given, "hydra/launcher=basic").code == 0
    for number in "012":
        assert losses(tmp_path / "sweep" / number) == pytest.approx(losses(tmp_path / "alone" / number), rel=1e-3)


def test_a_slow_stack_is_not_used(tmp_path: Path) -> None:
    def slow() -> None:
        from hydra_plugins.experiments_batched import _trial

        _trial.FASTER = 1e9

    done = swept(tmp_path / "sweep", "seed=0,1", "epochs=1", before=slow)
    assert done.code == 0, done
    assert "times as fast in a trial, less than" in done.out


def test_early_stopping_ends_one_training_of_a_stack(tmp_path: Path) -> None:
    given = ("optim.lr=1e-7,0.01", "seed=0", "callbacks=early_stopping", "callbacks.early_stopping.patience=2")
    done = swept(tmp_path / "sweep", *given, "callbacks.early_stopping.min_delta=0.01", "epochs=6")
    assert done.code == 0, done
    epochs = [len(run_in(tmp_path / "sweep" / number).history) for number in "01"]
    assert epochs[0] < epochs[1]


def test_a_slot_changes_no_bit(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    assert swept(folder, "seed=2,0,1", "optim.lr=0.01,0.001").code == 0
    other = {
        run_in(folder / number).start.params["seed"] + run_in(folder / number).start.params["optim.lr"]: number
        for number in NUMBERS
    }
    for number in NUMBERS:
        params = run_in(whole / number).start.params
        one, same = came_to(whole / number), came_to(folder / other[params["seed"] + params["optim.lr"]])
        assert all(torch.equal(one["weights"][name], same["weights"][name]) for name in one["weights"])


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5"])
def test_a_wrong_size_is_refused_before_the_sweep(given: str, tmp_path: Path) -> None:
    done = swept(tmp_path / "sweep", "seed=0,1", f"hydra.launcher.stack={given}")
    assert done.code == 2
    assert "hydra.launcher.stack" in done.err and "whole number of 1 or more" in done.err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("given", ["2x", "x2", "3x0", "three", "3.5x2"])
def test_a_wrong_layout_is_refused(given: str) -> None:
    from experiments.errors import ConfigError

    told = "it should be a number of models, or orders of rows x models on each: 8x4"
    with pytest.raises(ConfigError) as refused:
        check.configured([f"device.batched={given}"])
    assert [str(fault) for fault in refused.value.faults] == [f"device.batched: {given!r} is not allowed: {told}"]


COUNTING = """
import random
from torch import nn
from experiments import register

class Linear(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.layer, self.calls = nn.Linear(data.features, data.outputs), 0

@register.model("counting", input="flat")
class Counting(Linear):
    def forward(self, xb):
        if self.training:
            self.calls += 1
        return self.layer(xb) * (1 + 0.1 * (self.calls // 30))

@register.model("dicing", input="flat")
class Dicing(Linear):
    def forward(self, xb):
        return self.layer(xb) * (random.random() if self.training else 1)
"""


def test_a_model_that_counts_its_calls_does_so_in_a_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Python runs in each step: beyond the trial's steps too it is what it is alone."""
    (tmp_path / "own.py").write_text(COUNTING)
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(tmp_path / "own.py"))
    given = (
        "-m",
        "dataset=digits",
        "model=counting",
        "optim.lr=0.01,0.02",
        "epochs=2",
        "figures=false",
        "tracking=none",
    )
    assert command(*given, "hydra/launcher=batched", f"hydra.sweep.dir={tmp_path / 'a'}", before=at_any_gain).code == 0
    assert command(*given, f"hydra.sweep.dir={tmp_path / 'b'}").code == 0
    for number in "01":
        assert losses(tmp_path / "a" / number) == pytest.approx(losses(tmp_path / "b" / number), rel=1e-3)


def test_a_model_that_draws_from_python_is_trained_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(COUNTING)
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(tmp_path / "own.py"))
    given = ("-m", "hydra/launcher=batched", *PLAIN[:1], *PLAIN[2:], "model=dicing", "seed=0,1")
    done = command(*given, f"hydra.sweep.dir={tmp_path / 'sweep'}", before=at_any_gain)
    assert done.code == 0, done
    assert "of a trial the loss is" in done.out


CHANGING = """
from torch import nn
from experiments import register
from experiments.training.callback import Callback

@register.callback("warmer")
class Warmer(Callback):
    def on_epoch_end(self, runner, epoch, figures):
        runner.model.temperature = 1.0 + epoch

@register.model("tempered", input="flat")
class Tempered(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.layer, self.temperature = nn.Linear(data.features, data.outputs), 1.0
    def forward(self, xb):
        return self.layer(xb) / self.temperature
"""


def test_a_model_that_a_callback_changes_is_not_trained_as_if_it_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(CHANGING)
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(tmp_path / "own.py"))
    given = ("-m", "hydra/launcher=batched", "dataset=digits", "optim.lr=0.01", "epochs=4", *PLAIN[4:], "seed=0,1")
    more = ("model=tempered", "callbacks=warmer", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    done = command(*given, *more, before=at_any_gain)
    assert done.code == 1
    assert "its model has other attributes" in raw_journal.summary(tmp_path / "sweep" / "0")["reason"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["0"], "0"),
        (["1", "0"], "0, 1"),
        (["0", "8", "1", "9", "2", "10"], "0 to 2, 8 to 10"),
        (["3", "1", "7", "8"], "1, 3, 7, 8"),
        (["lr=1", "lr=2", "lr=3"], "lr=1, lr=2, lr=3"),
    ],
)
def test_the_jobs_of_a_stack_are_told_in_ranges(names: list[str], told: str) -> None:
    assert in_ranges(names) == told
