"""`python -m experiments.resume`: what it refuses and how it says so, more epochs, finished runs and owned ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest

import experiments
from experiments.config import discovery
from experiments.runs import restore
from experiments.tracking import journal
from experiments.training.checkpoint import FOLDER
from tests.support import raw_journal
from tests.support.commands import EPOCHS, NOISE, SMALL, at_step, begin, resumed, same_run, status
from tests.support.forked import fork, kill
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

CHANGED = "cannot resume: these settings changed since the run started:"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and one that was killed in its second epoch."""
    folder = tmp_path_factory.mktemp("runs")
    # In this process: the processes that are forked off it then have all that is imported late.
    experiments.run([*SMALL, f"hydra.run.dir={folder / 'finished'}"])
    assert begin(folder / "killed", before=partial(at_step, 6, kill)).code == -signal.SIGKILL
    return folder


@pytest.fixture
def killed(runs: Path, workplace: Path) -> Path:
    return Path(shutil.copytree(runs / "killed", workplace / "run"))


@pytest.fixture
def finished(runs: Path, workplace: Path) -> Path:
    return Path(shutil.copytree(runs / "finished", workplace / "run"))


def content(folder: Path) -> dict[str, bytes]:
    """What a refusal leaves as it was: all but the log and the lock."""
    kept = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".log", ".lock")]
    return {str(path): path.read_bytes() for path in kept}


def refused(folder: Path | str, *overrides: str) -> str:
    """The one message of a refusal, which leaves everything as it was."""
    before = content(Path(folder))
    done = resumed(folder, *overrides)
    assert done.code == 2, done
    assert "Traceback" not in done.err and content(Path(folder)) == before
    assert done.err.startswith("error: ")
    return done.err.removeprefix("error: ").removesuffix("\n")


def test_a_folder_that_is_not_there_is_told(workplace: Path) -> None:
    expected = f"{workplace}/none: no run or sweep to resume: neither journal.jsonl nor sweep.json found"
    assert refused("none") == expected
    assert list(workplace.iterdir()) == []


def test_a_folder_without_a_run_is_told(workplace: Path) -> None:
    (workplace / "notes.txt").write_text("mine")
    assert "no run or sweep to resume" in refused(workplace)


def test_a_run_of_which_nothing_was_written_is_told(workplace: Path) -> None:
    (workplace / journal.FILE).write_text('{"event": "start", "id"')
    assert refused(workplace).endswith("its run ended before anything was written; start it again")


def test_a_killed_run_goes_on(killed: Path) -> None:
    done = resumed(killed)
    assert (done.code, status(killed)) == (0, "FINISHED")
    assert "resumes at epoch 1, step 1\n" in done.out


@pytest.mark.parametrize(
    ("override", "differing"),
    [
        ("optim.lr=0.5", ["optim.lr: 0.001 then, 0.5 now"]),
        ("loader.batch_size=8", ["loader.batch_size: 4 then, 8 now"]),
        ("seeds.noise=1", ["seeds.noise: "]),
        ("dataset.seed=1", ["content of dataset: ", "dataset.seed: 0 then, 1 now"]),
        ("model.width=7", ["model.width: 6 then, 7 now"]),
        ("max_grad_norm=1.0", ["max_grad_norm: None then, 1.0 now"]),
        ("+callbacks.weight_images={}", ["code of callbacks.weight_images: 'nothing' then, "]),
    ],
)
def test_another_training_is_refused_with_what_differs(override: str, differing: list[str], killed: Path) -> None:
    told = refused(killed, override).splitlines()
    assert told[0] == f"{killed}: {CHANGED}"
    assert told[-1] == "Start a new run or revert them"
    assert len(told) == len(differing) + 2
    assert all(line.strip().startswith(start) for line, start in zip(told[1:-1], differing, strict=True))


def test_another_optimiser_is_refused_with_all_that_differs(killed: Path) -> None:
    told = refused(killed, "optim=adamw")
    assert "optim.name: 'adam' then, 'adamw' now" in told
    assert "optim.weight_decay: 0.0 then, 0.01 now" in told
    assert "code of optim.adam: " in told and "code of optim.adamw: " in told


OWN = """import experiments
@experiments.register.metric('mine', targets='classes')
def mine(pred, target):
    return scaled(pred.argmax(dim=1).sum())

def scaled(total):
    return total {}
"""


def test_an_own_component_with_other_code_is_refused(workplace: Path) -> None:
    own, folder = workplace / "mine.py", workplace / "run"

    def announced() -> None:
        os.environ[discovery.SETTING] = str(own)
        at_step(6, kill)

    own.write_text(OWN.format("* 1"))
    assert begin(folder, "+metrics.mine={}", before=announced).code == -signal.SIGKILL
    own.write_text(OWN.format("* 2"))
    done = resumed(folder, before=announced)
    assert done.code == 2 and "\n  code of metrics.mine: '" in done.err
    assert done.err.count(" then, ") == 1


def test_what_changes_no_result_may_be_changed(killed: Path) -> None:
    assert resumed(killed, "name=renamed", "checkpoint.every_steps=2").code == 0
    (event,) = [event for event in raw_journal.read(killed) if event["event"] == "resume"]
    assert event["changed"] == {"name": "renamed", "checkpoint.every_steps": "2"}


def test_a_key_that_is_not_there_is_told_as_on_the_command_line_of_a_run(killed: Path) -> None:
    assert refused(killed, "optim.lrr=1").startswith("optim.lrr: unknown key; did you mean 'lr'?")


@pytest.mark.parametrize("begun", ["killed", "finished"])
def test_more_epochs_come_to_what_a_longer_run_comes_to(begun: str, runs: Path, workplace: Path) -> None:
    shutil.copytree(runs / begun, workplace / "run")
    assert begin(workplace / "longer", f"epochs={EPOCHS + 2}").code == 0
    done = resumed("run", f"epochs={EPOCHS + 2}")
    assert done.code == 0, done
    (workplace / "longer" / NOISE).unlink()
    assert same_run(workplace / "run", workplace / "longer")


def test_fewer_epochs_than_are_done_are_refused(finished: Path) -> None:
    assert refused(finished, "epochs=2") == f"epochs: 2 are asked for, {EPOCHS} are done"


@pytest.mark.parametrize("scheduler", ["one_cycle", pytest.param("cosine", marks=pytest.mark.slow)])
def test_more_epochs_of_a_scheduler_that_spreads_over_all_are_refused(scheduler: str, workplace: Path) -> None:
    assert begin(workplace / "run", f"scheduler={scheduler}", before=partial(at_step, 6, kill)).code == -signal.SIGKILL
    told = refused("run", "epochs=5")
    assert (
        told == f"epochs: scheduler {scheduler} spreads over all {EPOCHS} epochs, so it cannot train for another number"
    )


def test_a_finished_run_says_so(finished: Path) -> None:
    before = content(finished)
    done = resumed(finished)
    assert (done.code, done.out) == (
        0,
        f"{finished} is finished, after {EPOCHS} epochs; more of them: epochs={EPOCHS + 1}\n",
    )
    assert content(finished) == before


def test_a_finished_run_that_stopped_early_says_so(workplace: Path) -> None:
    early = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optim.lr=3.0", "epochs=9"]
    assert begin(workplace / "run", *early).code == 0
    done = resumed("run")
    assert done.code == 0 and "run is finished, after " in done.out
    assert len(raw_journal.history(workplace / "run")) < 9


def test_a_run_that_another_process_has_is_refused_naming_it(killed: Path) -> None:
    def own() -> None:
        owned = journal.Journal(killed, reopen=True)
        owned.resume(changed={})
        (killed / "owned").touch()
        time.sleep(60)

    owner = fork(own)
    try:
        while not (killed / "owned").exists():
            time.sleep(0.01)
        done = resumed(killed, before=lambda: setattr(restore, "WAIT_SECONDS", 0))
    finally:
        os.kill(owner.pid, signal.SIGKILL)
        owner.wait()
    assert done.code == 2
    told = f"error: {killed}: process {owner.pid} on {os.uname().nodename} has this run in use; a run has one process\n"
    assert done.err == told
    assert resumed(killed).code == 0


def test_a_run_whose_process_is_gone_can_be_had_at_once(killed: Path) -> None:
    assert resumed(killed, before=lambda: setattr(restore, "WAIT_SECONDS", 0)).code == 0


def test_it_goes_on_from_anywhere(killed: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "elsewhere").mkdir()
    monkeypatch.chdir(workplace / "elsewhere")
    assert resumed("../run").code == 0
    assert list((workplace / "elsewhere").iterdir()) == []


def test_with_all_checkpoints_damaged_each_is_told(killed: Path) -> None:
    files = sorted((killed / FOLDER).glob("last-*"))
    for path in files:
        path.write_bytes(path.read_bytes()[:100])
    told = refused(killed)
    assert told.startswith(f"no checkpoint in {killed / FOLDER} can be used:\n")
    assert len(files) == 2 and all(f"{path} is damaged" in told for path in files)


def test_with_the_newest_damaged_it_goes_on_from_the_one_before(killed: Path, runs: Path) -> None:
    newest = max((killed / FOLDER).glob("last-*"))
    newest.write_bytes(b"")
    done = resumed(killed)
    assert done.code == 0 and f"resuming from the previous checkpoint: {newest} is damaged" in done.out
    assert "resumes at epoch 1, step 0\n" in done.out
    assert same_run(killed, runs / "finished")


def test_leftovers_of_the_dead_process_are_tidied(killed: Path) -> None:
    leftover = killed / FOLDER / "last-00001-000002-0123456789abcdef.pt.abc.part"
    leftover.write_bytes(b"half")
    assert resumed(killed).code == 0
    assert not leftover.exists()


def test_what_it_is_begun_with_is_kept_as_it_was_given(killed: Path) -> None:
    start = json.loads((killed / journal.FILE).read_text(encoding="utf-8").splitlines()[0])
    assert start["overrides"][: len(SMALL)] == list(SMALL)
