"""`python -m experiments.replay`: a run is trained again from its own commit and patch, changes are named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import replay
from tests.support import raw_journal
from tests.support.forked import Ended, forked
from tests.support.places import ROOT
from tests.support.repositories import answer, committed, work_in

pytestmark = pytest.mark.process

MINE = """
import experiments
from torch import nn
from helper import WIDTH

@experiments.register.model("mine")
def mine(data):
    return nn.Sequential(nn.Flatten(), nn.Linear(data.features, WIDTH), nn.Tanh(), nn.Linear(WIDTH, data.outputs))
"""
SETTINGS = (
    *("model=mine", "dataset=arrays", "dataset.path=rows.npz", "epochs=2", "tracking=none", "figures=false"),
    *("device=cpu", "seed=1", "hydra.run.dir=run"),
)


def rows(folder: Path, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    np.savez(folder / "rows.npz", x=drawn.random((60, 4), np.float32), y=drawn.integers(0, 3, 60))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that git knows, with a run begun in a dirty tree: own files that git does not know."""
    folder = committed(tmp_path_factory.mktemp("project"), known_py="one = 1\n")
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    (folder / "helper.py").write_text("WIDTH = 5\n", encoding="utf-8")
    rows(folder, 0)
    more = {"EXPERIMENTS_COMPONENTS": "mine.py", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "experiments", *SETTINGS]
    subprocess.run(words, cwd=folder, env=os.environ | more, check=True, timeout=240)
    return folder


@pytest.fixture(autouse=True)
def as_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def replayed(run: Path, *arguments: str, place: Path | None = None) -> Ended:
    """`python -m experiments.replay RUN`, in another folder."""

    def action() -> None:
        work_in(place or run.parent)
        replay.main([str(run), *arguments])

    return forked(action, 240)


def code(project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (project / "helper.py").write_text("WIDTH = 7\n", encoding="utf-8")
    return "changed: code of model.mine: "


def data(project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    rows(project, 1)
    return "changed: content of dataset: "


def in_journal(project: Path, old: str, new: str) -> None:
    """Have the run's journal say something else."""
    journal = project / "run" / "journal.jsonl"
    text = journal.read_text(encoding="utf-8")
    assert old in text
    journal.write_text(text.replace(old, new), encoding="utf-8")


def torchs_version(project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    in_journal(project, f'"machine.torch": "{torch.__version__}"', '"machine.torch": "1.0"')
    return "warning: machine.torch: '1.0' then, "


def threads(project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    return "warning: machine.threads: 1 then, 2 now"


def seed(project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    in_journal(project, '"seed=1"', '"seed=2"')
    return "changed: seeds.init: "


@pytest.mark.parametrize("plant", [code, data, torchs_version, threads, seed])
def test_a_planted_change_is_named_before_the_training(
    plant: Callable[[Path, pytest.MonkeyPatch], str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {
        path: path.read_bytes() for path in (project / "helper.py", project / "rows.npz", project / "run/journal.jsonl")
    }
    try:
        expected = plant(project, monkeypatch)
        done = replayed(project / "run", "--here")
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    lines = done.out.splitlines()
    named, trained = (
        [at for at, line in enumerate(lines) if line.startswith(start)] for start in (expected, "epoch 0")
    )
    assert len(named) == 1 and named < trained, done


def test_a_replay_from_a_fresh_clone_is_identical(project: Path, tmp_path: Path) -> None:
    answer(tmp_path, "clone", "--quiet", str(project), "fresh")
    (project / "helper.py").write_text("WIDTH = 7\n", encoding="utf-8")  # today's
    try:
        done = replayed(project / "run", place=tmp_path / "fresh")
    finally:
        (project / "helper.py").write_text("WIDTH = 5\n", encoding="utf-8")
    assert done.code == 0, done
    assert "\nnothing differs from the run\n" in done.out
    assert done.out.splitlines()[-1].startswith("identical")
    assert json.loads((project / "run" / "replay.json").read_text(encoding="utf-8"))["verdict"]["word"] == "identical"
    (again,) = (tmp_path / "fresh" / "outputs" / "replays").glob("*/*/run")
    for tagged in (project / "run", again):
        assert raw_journal.read(tagged)[-1]["tags"] == {"experiments.replay": "identical"}
        assert raw_journal.summary(tagged)["status"] == "FINISHED"
    assert answer(tmp_path / "fresh", "worktree", "list").count("\n") == 1


def test_todays_other_code_differs_with_exit_code_1(project: Path) -> None:
    (project / "helper.py").write_text("WIDTH = 7\n", encoding="utf-8")
    try:
        done = replayed(project / "run", "--here", "--json")
    finally:
        (project / "helper.py").write_text("WIDTH = 5\n", encoding="utf-8")
    told = json.loads(done.out)["answer"]
    assert (done.code, told["verdict"]["word"], told["code"]) == (1, "differs", "today")
    assert told["verdict"]["first"]["epoch"] == 0


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"mlflow.source.git.commit": None}, "it was not started in a git repository, so its code was not kept"),
        ({"experiments.patch": "cut: 3.2 MiB"}, "were not kept whole (cut: 3.2 MiB)"),
        ({"experiments.patch": "off"}, "were not kept whole (off)"),
        ({"mlflow.source.git.commit": "0" * 40}, f"has its commit {'0' * 40}; fetch it"),
    ],
)
def test_without_its_code_a_replay_is_refused(tags: dict[str, str | None], told: str, project: Path) -> None:
    journal = project / "run" / "journal.jsonl"
    before = journal.read_text(encoding="utf-8")
    start, _, rest = before.partition("\n")
    line = json.loads(start)
    line["tags"] = {name: value for name, value in (line["tags"] | tags).items() if value is not None}
    journal.write_text(f"{json.dumps(line)}\n{rest}", encoding="utf-8")
    try:
        done = replayed(project / "run")
    finally:
        journal.write_text(before, encoding="utf-8")
    assert done.code == 2 and told in done.err and "--here trains it with today's code" in done.err


def _before_the_end(lines: list[str]) -> list[str]:
    return [line for line in lines if json.loads(line)["event"] not in ("end", "tags")]


def test_a_run_without_an_end_is_refused(project: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    lines = (project / "run" / "journal.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "run" / "journal.jsonl").write_text("".join(_before_the_end(lines)), encoding="utf-8")
    done = replayed(tmp_path / "run")
    assert done.code == 2 and "it is RUNNING, so there is nothing to compare with" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_worktree(number: int, project: Path, tmp_path: Path) -> None:
    answer(tmp_path, "clone", "--quiet", str(project), "fresh")
    more = {"TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    words = [sys.executable, "-m", "experiments.replay", str(project / "run")]
    started = subprocess.Popen(words, cwd=tmp_path / "fresh", env=os.environ | more, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list((tmp_path / "temporary").glob("*/code/mine.py")) and time.monotonic() < until:
        time.sleep(0.02)
    started.send_signal(number)
    started.communicate(timeout=60)
    assert started.returncode == 128 + number
    assert list((tmp_path / "temporary").iterdir()) == []
    assert answer(tmp_path / "fresh", "worktree", "list").count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["01_tensors", "08_validation", "13_gpu"])
def test_a_stage_begun_in_a_dirty_tree_of_this_package_is_identical(stage: str, tmp_path: Path) -> None:
    answer(tmp_path, "clone", "--quiet", str(ROOT), "dirty")
    dirty = tmp_path / "dirty"
    source = dirty / "src" / "experiments" / "training" / "update.py"
    source.write_text(source.read_text(encoding="utf-8") + "\nDIRTY = True\n", encoding="utf-8")
    answer(tmp_path, "clone", "--quiet", "dirty", "fresh")
    settings = ["dataset=mnist_5k", "limit_batches=5", "epochs=1", "tracking=none", "device.threads=1", "figures=false"]
    words = [f"stage={stage}", *settings, "hydra.run.dir=run"]
    for place, module, given in (
        (dirty, "experiments", words),
        (tmp_path / "fresh", "experiments.replay", ["../dirty/run"]),
    ):
        own = os.environ | {"PYTHONPATH": str(place / "src")}
        done = subprocess.run(
            [sys.executable, "-m", module, *given], cwd=place, env=own, capture_output=True, text=True
        )
        assert done.returncode == 0, done
    assert "+DIRTY = True" in (dirty / "run" / "code.patch").read_text(encoding="utf-8")
    assert "nothing differs from the run\n" in done.stdout and done.stdout.splitlines()[-1].startswith("identical")
