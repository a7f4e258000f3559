"""`hydra/launcher=slots`: warm workers of any Hydra application; what one that dies costs, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from hydra_plugins.experiments_slots import _workers
from tests.support.tracked import eventually

# An application that knows nothing of this package.
APPLICATION = """
import json, os, signal, time
from pathlib import Path
import hydra

@hydra.main(version_base=None, config_path=None)
def main(config):
    if "wait" in config:
        Path(f"begun-{config.x}").touch()
        time.sleep(300)
    if config.x == 3 and Path("deaths").exists():
        left = int(Path("deaths").read_text())
        if left:
            Path("deaths").write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
    if config.x == 5 and "raises" in config:
        raise RuntimeError("out of luck")
    seen = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
    line = json.dumps({"x": config.x, "process": os.getpid(), **seen})
    with open("lines.jsonl", "a") as file:
        file.write(line + "\\n")
    return config.x

if __name__ == "__main__":
    main()
"""
SIX = "+x=1,2,3,4,5,6"


@pytest.fixture
def application(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    variables = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    return subprocess.Popen(
        [sys.executable, "app.py", "-m", "hydra/launcher=slots", "hydra.launcher.slots=2", *arguments],
        cwd=folder,
        env=variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def swept(folder: Path, *arguments: str) -> tuple[int, str, list[dict[str, Any]]]:
    process = started(folder, *arguments)
    said, _ = process.communicate(timeout=120)
    file = folder / "lines.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return process.returncode, said, lines


def test_any_hydra_application_has_its_jobs_in_two_processes(application: Path) -> None:
    code, said, lines = swept(application, SIX)
    assert code == 0, said
    assert sorted(line["x"] for line in lines) == [1, 2, 3, 4, 5, 6]
    assert len({line["process"] for line in lines}) == 2
    (sweep,) = (application / "multirun").glob("*/*")
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1", "2", "3", "4", "5"]


def test_each_slot_has_its_card_and_its_share_of_the_cores(application: Path) -> None:
    code, said, lines = swept(application, SIX, "hydra.launcher.cards=[0,4]")
    assert code == 0, said
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert {line["OMP_NUM_THREADS"] for line in lines} == {str(max(1, cores // 2))}
    assert {line["CUDA_VISIBLE_DEVICES"] for line in lines} == {"0", "4"}
    assert len({(line["process"], line["CUDA_VISIBLE_DEVICES"]) for line in lines}) == 2


def test_a_worker_that_dies_costs_its_job_alone(application: Path) -> None:
    (application / "deaths").write_text("2")
    code, said, lines = swept(application, SIX)
    assert code == 0, said
    assert sorted(line["x"] for line in lines) == [1, 2, 3, 4, 5, 6]
    assert said.count("the worker process of job 2 died") == 2


def test_a_job_whose_workers_all_die_is_failed_and_the_others_are_done(application: Path) -> None:
    (application / "deaths").write_text("9")
    code, said, lines = swept(application, SIX, "hydra.launcher.max_retries=1")
    assert sorted(line["x"] for line in lines) == [1, 2, 4, 5, 6]
    assert code == 1 and "its process died 2 times" in said, said


def test_a_job_that_raises_is_not_tried_again(application: Path) -> None:
    code, said, lines = swept(application, SIX, "+raises=true")
    assert sorted(line["x"] for line in lines) == [1, 2, 3, 4, 6]
    assert code == 1 and "out of luck" in said and "died" not in said, said


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_the_process_that_began_it(how: signal.Signals, application: Path) -> None:
    process = started(application, "+x=1,2,3", "+wait=true")
    eventually(lambda: len(list(application.glob("begun-*"))) == 2)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.send_signal(how)
    process.communicate(timeout=60)
    eventually(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))


@pytest.mark.parametrize(
    ("slots", "cards", "per_card", "seen", "threads"),
    [
        ("auto", [], 1, [None] * 8, 1),
        (3, [], 1, [None] * 3, 2),
        ("auto", [0, 2], 1, ["0", "2"], 4),
        ("auto", [0, 2], 3, ["0", "2"] * 3, 1),
        (3, ["GPU-a", "GPU-b"], 1, ["GPU-a", "GPU-b", "GPU-a"], 2),
        (16, [], 1, [None] * 16, 1),
    ],
)
def test_slots_share_cards_and_cores(
    slots: int | str,
    cards: list[Any],
    per_card: int,
    seen: list[str | None],
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    made = _workers.environments(slots, cards, per_card)
    assert [one.get("CUDA_VISIBLE_DEVICES") for one in made] == seen
    assert {one["OMP_NUM_THREADS"] for one in made} == {str(threads)}


@pytest.mark.parametrize(("visible", "cards"), [("", []), ("-1", []), ("1,3", ["1", "3"]), ("GPU-a", ["GPU-a"])])
def test_cards_that_are_hidden_are_left_alone(visible: str, cards: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _workers.visible_cards() == cards


@pytest.mark.process
def test_all_cards_of_the_machine_are_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _workers.visible_cards() == ["0", "1"]
