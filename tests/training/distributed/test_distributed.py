"""One training in several processes: it is the training that one process does, it is one run, and it ends as one.

Covered: gloo between CPUs of one machine. Not covered: NCCL between cards, and several machines.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import experiments
from experiments import __main__ as command_line
from experiments import resume
from experiments.compare import __main__ as compare
from experiments.components.datasets.synthetic import synthetic
from experiments.config.registry import register
from experiments.data.batches import Order
from experiments.runs import pictures, preparation
from experiments.tracking import journal
from experiments.training import build
from experiments.training.checkpoint import FOLDER
from experiments.training.distributed import group as distributed
from experiments.training.distributed import sampler
from experiments.training.distributed import step as joint
from experiments.training.distributed.group import Group
from experiments.training.distributed.step import JointUpdate
from experiments.training.runner import Runner
from experiments.training.serializable import packed, unpacked
from tests.support import raw_journal, tracked
from tests.support.commands import at_step, nothing, resumed, same_run, signalled, status
from tests.support.forked import Ended, kill
from tests.support.processes import Torchrun, checked, farthest, in_float64, in_processes, in_step, trained
from tests.support.resuming import alike
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

slow = pytest.mark.slow

SMALL = (
    *("dataset=synthetic", "dataset.shape=[1,4,4]", "dataset.classes=3", "dataset.train=50", "dataset.valid=21"),
    *("device=cpu", "loader.batch_size=8", "loader.valid_batch_size=6", "tracking=none", "figures=false"),
)
MLP = ("model=mlp", "model.width=6", "optim=sgd_momentum")
STAGE = ("stage=12_wrapped_dataloader", "dataset=mnist_5k", "tracking=none", "figures=false")
NOISY = (*SMALL, "model=mlp", "model.width=6", "model.dropout=0.5", "transforms=random_shift", "optim=adam", "epochs=3")
SPLIT = synthetic(shape=[1, 4, 4], classes=3, train=50, valid=21).train


def broken(error: Exception) -> None:
    raise error


def joint_and_alone(overrides: tuple[str, ...], folder: Path, world: int = 2, **wait: float) -> list[Any]:
    """What a training in float64 comes to in several processes, and in one."""
    done = in_processes(world, partial(trained, partial(in_float64, overrides), folder / "joint.json"), **wait)
    assert [one.code for one in done] == [0] * world, done
    return [json.loads((folder / "joint.json").read_text()), in_float64(overrides, None)]


@pytest.fixture(autouse=True, scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """In this process: those that are forked off it then have all that is imported late."""
    folder = tmp_path_factory.mktemp("imported")
    experiments.run([*NOISY, f"hydra.run.dir={folder / 'run'}", f"output_root={folder}"])


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("name", register.loader.names)
def test_the_shares_of_a_batch_are_the_batch_in_its_order(name: str, world: int, shuffle: bool) -> None:
    def batches(order: Order, size: int) -> list[list[float]]:
        order.epoch = 3
        loader = register.loader.bind(name, {})(SPLIT, size, order, (16,))
        return [xb.tolist() for xb, _ in loader]

    whole = Order(50, shuffle=shuffle, seed=5)
    shares = []
    for rank in range(world):
        order = sampler.ShareOrder(Order(50, shuffle=shuffle, seed=5), 8, rank, world)
        shares.append(batches(order, sampler.size(8, rank, world)))
        assert len(order) == sum(map(len, shares[-1]))
    joined = [
        [row for share in shares for row in (share[number] if number < len(share) else [])] for number in range(7)
    ]
    assert joined == batches(whole, 8)


@pytest.mark.parametrize(
    ("overrides", "world"),
    [
        pytest.param(MLP, 2, id="2"),
        pytest.param(MLP, 3, id="3, one of which has no row of the last batch"),
        pytest.param((*MLP, "evaluation.mean=batches"), 3, id="mean over batches"),
        pytest.param((*MLP, "max_grad_norm=0.05"), 3, id="gradients clipped"),
        pytest.param((*MLP, "accumulate=3", "loader.batch_size=4"), 3, id="steps of several batches"),
        pytest.param((*MLP, "limit_batches=2", "scheduler=one_cycle"), 2, id="few batches, scheduler"),
        pytest.param(("model=mlp", "model.width=6", "optim=adam", "loader=dataloader"), 3, id="adam, dataloader"),
        pytest.param((*MLP, "callbacks=early_stopping", "callbacks.early_stopping.patience=1"), 2, id="stopped"),
        pytest.param(
            ("model=logistic_tensors", "loss=nll_by_hand", "optim=by_hand", "loader=slices"), 3, id="no module"
        ),
    ],
)
def test_several_processes_train_what_one_does(overrides: tuple[str, ...], world: int, tmp_path: Path) -> None:
    joint, alone = joint_and_alone((*SMALL, *overrides), tmp_path, world)
    assert farthest(joint, alone) < 1e-12


@slow
@pytest.mark.parametrize("loader", ["wrapped_dataloader", "in_memory"])
def test_in_float64_two_processes_have_the_loss_curve_of_one(loader: str, tmp_path: Path) -> None:
    joint, alone = joint_and_alone((*STAGE, f"loader={loader}"), tmp_path, seconds=240)
    assert len(alone["history"]) == 2 and farthest(joint, alone) < 1e-9


@slow
@pytest.mark.parametrize("loader", ["wrapped_dataloader", "in_memory"])
def test_in_float32_each_step_from_equal_states_is_that_of_one_process(loader: str, tmp_path: Path) -> None:
    overrides = (*STAGE, f"loader={loader}")
    done = in_processes(2, partial(trained, partial(in_step, overrides), tmp_path / "found.json"), seconds=240)
    assert [one.code for one in done] == [0, 0], done
    found = json.loads((tmp_path / "found.json").read_text())
    assert 0 < found["losses"] < 1e-5 and found["weights"] < 1e-5


def test_all_processes_have_the_same_weights_to_the_last_bit(tmp_path: Path) -> None:
    def action() -> None:
        real = Runner.fit

        def fit(self: Runner, epochs: int, **handed: Any) -> Any:
            result = real(self, epochs, **handed)
            torch.save(self.model.state_dict(), tmp_path / f"weights-{os.environ['RANK']}.pt")
            return result

        Runner.fit = fit  # type: ignore[method-assign]  # in a process that ends soon
        run(f"hydra.run.dir={tmp_path / 'run'}", f"output_root={tmp_path}")

    done = in_processes(3, action)
    assert [one.code for one in done] == [0, 0, 0], done
    first, *others = (torch.load(path) for path in sorted(tmp_path.glob("weights-*.pt")))
    assert len(others) == 2 and all(alike(first, other) for other in others)


def run(*overrides: str, before: Any = nothing, who: int = 1) -> None:
    """`python -m experiments` in each of several processes; `before` is done in one."""
    if os.environ["RANK"] == str(who):
        before()
    command_line_with(*NOISY, *overrides)


def command_line_with(*arguments: str) -> None:
    sys.argv = ["experiments", *arguments]
    command_line.main()


def runs(*overrides: str, world: int = 2, **one: Any) -> list[Ended]:
    return in_processes(world, partial(run, "hydra.run.dir=run", *overrides, **one))


def goes_on(world: int = 2) -> list[Ended]:
    return in_processes(world, partial(resume.main, ["run"]))


def at_joint_step(number: int, change: Any) -> None:
    """Change this process's loss in one step, before the processes exchange anything."""
    real = JointUpdate.__call__

    def update(self: JointUpdate, loss: Any, at: Any) -> None:
        real(self, change(loss) if at == number else loss, at)

    JointUpdate.__call__ = update  # type: ignore[method-assign,assignment]  # in a process that ends soon


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_it_is_one_run_in_one_folder_and_only_the_first_process_speaks(workplace: Path) -> None:
    first, *others = runs(world=3)
    assert first.code == 0 and " on 3 x cpu" in first.out and "epoch 2" in first.out, first
    assert all((one.code, one.out, one.err) == (0, "", "") for one in others), others
    assert {Path(file).parent.parts[:2] for file in files(workplace)} == {
        *(("run",), ("run", ".hydra"), ("run", "checkpoints"), ("outputs", "keys"))
    }
    assert status(workplace / "run") == "FINISHED"
    assert raw_journal.read(workplace / "run")[0]["identity"]["machine.processes"] == 3


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [(signal.SIGTERM, 143, "exit 143"), pytest.param(signal.SIGINT, 130, "interrupted", marks=slow)],
)
def test_a_signal_to_one_process_ends_all_between_two_steps_and_they_go_on_bit_for_bit(
    who: int, number: int, code: int, reason: str, workplace: Path
) -> None:
    assert runs()[0].code == 0
    (workplace / "run").rename("straight")
    ended = runs("checkpoint.every_epochs=null", before=signalled(11, number), who=who)
    assert [one.code for one in ended] == [code, code], ended
    summary = raw_journal.summary(workplace / "run")
    assert (summary["status"], summary["reason"]) == ("KILLED", reason)
    assert [path.name[:18] for path in (workplace / "run" / FOLDER).glob("last-*")] == ["last-00001-000005-"]
    assert [one.code for one in goes_on()] == [0, 0]
    assert status(workplace / "run") == "FINISHED" and same_run(workplace / "run", workplace / "straight")


def test_a_finished_run_that_is_gone_on_with_is_left_as_it_is(workplace: Path) -> None:
    runs()
    first, second = goes_on()
    assert (first.code, second.code) == (0, 0) and "run is finished, after 3 epochs" in first.out
    assert second.out == second.err == ""


def test_another_number_of_processes_is_another_training(workplace: Path) -> None:
    runs()
    done = resumed("run", "epochs=4")
    assert done.code == 2 and "machine.processes: 2 then, 'nothing' now" in done.err


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (kill, r"process 1 of 2 \(pid \d+\) ended, killed by a lack of memory perhaps"),
        (partial(broken, ValueError("no more")), "process 1 of 2 failed: ValueError: no more"),
    ],
    ids=["killed", "raises"],
)
def test_a_process_that_ends_in_the_middle_ends_the_run_with_its_reason(fault: Any, told: str, workplace: Path) -> None:
    began = time.monotonic()
    first, _ = runs("checkpoint.every_steps=2", before=partial(at_step, 11, fault))
    assert time.monotonic() - began < 30
    assert first.code == 1 and re.search(f"^error: {told}; resume with python -m", first.err, re.MULTILINE), first
    summary = raw_journal.summary(workplace / "run")
    assert summary["status"] == "FAILED" and re.search(told, summary["reason"])
    assert [one.code for one in goes_on()] == [0, 0] and status(workplace / "run") == "FINISHED"


def test_what_is_not_finite_in_one_process_stops_all_at_that_step(workplace: Path) -> None:
    first, second = runs(before=partial(at_joint_step, 9, lambda loss: loss * float("nan")))
    problem = "the loss or a gradient is not finite at step 9 (epoch 1, batch 2); that update was not applied"
    assert (first.code, second.code) == (1, 1) and f"error: {problem}" in first.err and second.err == ""
    assert raw_journal.summary(workplace / "run")["reason"] == f"TrainingError: {problem}"


def test_buffers_are_the_first_processs_and_batchnorm_is_told(tmp_path: Path) -> None:
    def action(group: Group | None) -> dict[str, Any]:
        assert group is not None
        root = checked(*SMALL, *MLP, "loader.batch_size=10")
        ready = preparation.prepare(root, (), group)
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 3))
        given: dict[str, Any] = {"splits": ready.splits, "device": ready.device, "seeds": ready.seeds}
        with pytest.MonkeyPatch.context() as patch:
            told: list[str] = []
            patch.setattr(joint.log, "warning", lambda text, *_: told.append(text))
            runner = build.assemble(root, model=model, folder=None, group=group, **given)
        runner.fit(2)
        states = [unpacked(part) for part in group.gather(packed(model.state_dict()))]
        return {"same": all(alike(states[0], state) for state in states), "told": told, "seen": len(states)}

    done = in_processes(2, partial(trained, action, tmp_path / "found.json"))
    assert [one.code for one in done] == [0, 0], done
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["same"] and found["seen"] == 2 and "statistics" in found["told"][0]


def test_what_the_first_process_of_a_machine_fetches_is_there_for_the_others(tmp_path: Path) -> None:
    def fetch() -> bool:
        there = (tmp_path / "data").exists()
        if not there:
            time.sleep(0.5)
            (tmp_path / "data").touch()
        return there

    def action(group: Group | None) -> dict[str, Any]:
        assert group is not None
        return {"found it there": group.gather(group.after_first_here(fetch))}

    in_processes(3, partial(trained, action, tmp_path / "found.json"))
    assert json.loads((tmp_path / "found.json").read_text()) == {"found it there": [False, True, True]}


@slow
def test_a_process_that_does_not_answer_is_waited_for_no_longer_than_a_bound(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "TIMEOUT", timedelta(seconds=3))
    first, _ = runs(before=partial(at_step, 11, partial(time.sleep, 12)))
    assert first.code == 1 and "error: another process ended, or did not answer for 0:00:03" in first.err
    assert status(workplace / "run") == "FAILED"


def test_a_stage_to_start_from_is_trained_together_first(workplace: Path) -> None:
    begins = ("dataset=mnist_5k", "limit_batches=3", "tracking=none", "figures=false", "device=cpu")
    arguments = ("stage=05_optim", "init_from=04_linear", "optim.lr=0.1", "hydra.run.dir=run", *begins)
    first, second = in_processes(2, lambda: command_line_with(*arguments))
    assert (first.code, second.code) == (0, 0) and "trains stage 04_linear first" in first.out, (first, second)
    assert second.out == second.err == "" and status(workplace / "run") == "FINISHED"


def test_what_is_the_work_of_one_process_is_refused_to_many(workplace: Path) -> None:
    done = in_processes(2, partial(compare.main, ["runs"]))
    assert [one.code for one in done] == [2, 2]
    assert (
        "".join(one.err for one in done)
        == "error: torchrun: many processes can train together; this command is the work of one\n"
    )


def test_processes_that_would_not_train_the_same_are_told_how(workplace: Path) -> None:
    first, _ = runs(before=partial(torch.set_num_threads, 3))
    assert first.code == 1 and "machine.threads: 1 in process 0, 3 in process 1" in first.err, first
    assert files(workplace) == set()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["loader.batch_size=2"], "loader.batch_size: 2 rows cannot be shared among 3 processes; 3 are the least"),
        (["dataset.valid=2"], "dataset: synthetic has 2 valid rows, too few for 3 processes"),
        (["device.index=0"], "device.index: "),
        (["inspect.breakpoint=true"], "inspect.breakpoint: a debugger can stop in one process, not in 3"),
        (
            ["hydra.mode=MULTIRUN", "seed=1,2"],
            "hydra.mode: torchrun trains one run with many processes; start the sweep without it",
        ),
    ],
    ids=["batch", "rows", "index", "debugger", "sweep"],
)
def test_what_many_processes_cannot_train_is_told_once_and_leaves_nothing(
    overrides: list[str], told: str, workplace: Path
) -> None:
    done = runs(*overrides, world=3)
    assert [one.code for one in done] == [2, 2, 2], done
    assert "".join(one.err for one in done).count("error: ") == 1 and told in done[0].err, done
    assert files(workplace) == set()


def under_way(folder: Path) -> None:
    """Wait until some epochs are done."""
    tracked.eventually(lambda: (folder / journal.FILE).exists() and len(raw_journal.history(folder)) > 2)


@slow
def test_torchrun_makes_one_run_in_mlflow(workplace: Path) -> None:
    arguments = ["stage=12_wrapped_dataloader", "dataset=mnist_5k", "epochs=2", "hydra.run.dir=run"]
    with Torchrun(workplace, "experiments", *arguments) as torchrun:
        assert torchrun.wait() == 0, torchrun.said.read_text()
    said = torchrun.said.read_text()
    assert said.count("epoch 0 ") == said.count("best valid/loss") == said.count("view ") == 1
    (one,) = tracked.runs(tracked.store_of(workplace))
    assert one.info.status == "FINISHED"
    assert tracked.brought(tracked.store_of(workplace), workplace / "run") == tracked.written(workplace / "run")
    with np.load(workplace / "run" / pictures.FILE) as kept:
        assert kept["confusion"].sum() == 1000  # every row of the validation, whichever process had it
    assert {path.name for path in workplace.iterdir()} == {
        *("run", "outputs", "mlflow.db", "mlflow.db.lock", "said.txt")
    }
    assert not (workplace / "outputs" / "runs").exists()


@slow
@pytest.mark.parametrize(
    ("who", "ended", "reason"),
    [pytest.param(1, "FAILED", "process 1 of 2 ", marks=pytest.mark.nightly), (0, "KILLED", "its process died")],
)
def test_with_one_process_killed_torchrun_ends_all_and_resume_goes_on(
    who: int, ended: str, reason: str, workplace: Path
) -> None:
    folder = workplace / "run"
    arguments = [*NOISY, "tracking=mlflow", "epochs=100000", "hydra.run.dir=run"]
    with Torchrun(workplace, "experiments", *arguments) as torchrun:
        under_way(folder)
        processes = torchrun.processes()
        assert set(processes) == {0, 1}
        os.kill(processes[who], signal.SIGKILL)
        began = time.monotonic()
        assert torchrun.wait(60) == 1
        assert time.monotonic() - began < 60 and torchrun.processes() == {}
    tracked.eventually(lambda: status(folder) != "RUNNING")  # the uploader sees to it
    summary = raw_journal.summary(folder)
    assert summary["status"] == ended and reason in summary["reason"]
    epochs = len(raw_journal.history(folder)) + 2
    with Torchrun(workplace, "experiments.resume", "run", f"epochs={epochs}") as again:
        assert again.wait() == 0, again.said.read_text()
    assert status(folder) == "FINISHED" and len(raw_journal.history(folder)) == epochs
    assert [one.info.status for one in tracked.runs(tracked.store_of(workplace))] == ["FINISHED"]


@slow
def test_torchrun_that_is_terminated_ends_with_the_state_saved(workplace: Path) -> None:
    folder = workplace / "run"
    with Torchrun(
        workplace, "experiments", *NOISY, "epochs=100000", "checkpoint.every_epochs=null", "hydra.run.dir=run"
    ) as torchrun:
        under_way(folder)
        torchrun.process.terminate()
        assert torchrun.wait(60) == 1
    assert (status(folder), raw_journal.summary(folder)["reason"]) == ("KILLED", "exit 143")
    assert len(list((folder / FOLDER).glob("last-*"))) == 1
