"""A run that meets another one on its cores, with more threads than there are cores, is told so."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from experiments.runs import cpu_contention
from experiments.tracking.journal import Journal
from experiments.tracking.pending import Pending
from tests.support.places import Cli

CPU = torch.device("cpu")


def noted(outputs: Path, *, device: str = "cpu", threads: int = 2) -> Path:
    """A tracked run that says what it computes with."""
    other = outputs / "runs" / "other"
    other.mkdir(parents=True)
    (other / "environment.json").write_text(json.dumps({"device": device, "threads": threads}), encoding="utf-8")
    Pending(outputs).add(other)
    return other


@pytest.fixture(autouse=True)
def two_threads_on_three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_contention, "cores", lambda: 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


@pytest.fixture
def held() -> Iterator[list[Journal]]:
    """Journals that are open until the test ends."""
    journals: list[Journal] = []
    yield journals
    for journal in journals:
        journal.close()


def told(outputs: Path, caplog: pytest.LogCaptureFixture, device: torch.device = CPU) -> str:
    with caplog.at_level(logging.WARNING):
        cpu_contention.warn(outputs / "runs" / "own", outputs, device)
    return caplog.text


def test_another_living_run_is_named_with_what_to_do(
    tmp_path: Path, held: list[Journal], caplog: pytest.LogCaptureFixture
) -> None:
    other = noted(tmp_path)
    held.append(Journal(other))
    assert f"{other} is being trained on these cores too: 2 threads here and 2 there, for 3" in told(tmp_path, caplog)
    assert "device.threads=1" in caplog.text


def test_a_run_that_is_over_is_in_nobodys_way(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Journal(noted(tmp_path)).close()
    assert told(tmp_path, caplog) == ""


@pytest.mark.parametrize(("device", "threads"), [("cuda", 2), ("cpu", 1)], ids=["a card", "a core for each thread"])
def test_one_that_leaves_enough_cores_is_not_told(
    device: str, threads: int, tmp_path: Path, held: list[Journal], caplog: pytest.LogCaptureFixture
) -> None:
    held.append(Journal(noted(tmp_path, device=device, threads=threads)))
    assert told(tmp_path, caplog) == ""


def test_a_run_on_a_card_meets_nobody(tmp_path: Path, held: list[Journal], caplog: pytest.LogCaptureFixture) -> None:
    held.append(Journal(noted(tmp_path)))
    assert told(tmp_path, caplog, torch.device("cuda")) == ""


def test_a_run_with_one_thread_waits_for_nobody(
    tmp_path: Path, held: list[Journal], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    held.append(Journal(noted(tmp_path, threads=9)))
    assert told(tmp_path, caplog) == ""


def test_what_is_noted_and_no_run_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Pending(tmp_path).add(tmp_path / "gone")
    assert told(tmp_path, caplog) == ""


def test_a_command_says_it_before_it_trains(workplace: Path, held: list[Journal], cli: Cli) -> None:
    held.append(Journal(noted(workplace / "outputs", threads=10_000)))
    done = cli("dataset=digits", "epochs=1", "tracking=none", "figures=false", "device.threads=2")
    assert done.returncode == 0
    assert "outputs/runs/other is being trained on these cores too: 2 threads here and 10000 there" in done.stdout
