"""Which model of a run is logged after it, and why it was not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from experiments.tracking import journal, model_process
from tests.support.tracked import write_run

URI = "sqlite:///mlflow.db"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The processes that would start; each is refused."""
    found: list[list[str]] = []

    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        found.append(words)
        return subprocess.CompletedProcess(words, 2, "", "note: a warning\nerror: it cannot be exported\n")

    monkeypatch.setattr(subprocess, "run", run)
    return found


def test_a_run_of_an_older_version_has_no_model(tmp_path: Path) -> None:
    assert model_process.chosen(write_run(tmp_path / "run", None)) == "none"


def test_the_last_resumption_decides(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", None, params={"tracking.model": "last"})
    assert model_process.chosen(folder) == "last"
    resumed = journal.Journal(folder, reopen=True)
    resumed.resume(overrides=[], changed={"tracking.model": "best"}, run_key="k")
    resumed.end("FINISHED")
    assert model_process.chosen(folder) == "best"


def test_a_run_that_did_not_finish_has_no_model(tmp_path: Path, started: list[list[str]]) -> None:
    folder = write_run(tmp_path / "run", None, status="FAILED", params={"tracking.model": "last"})
    assert not model_process.log(folder, URI)
    assert not started


def test_the_reason_of_a_refusal_is_its_last_line_and_the_address_is_no_argument(
    tmp_path: Path, started: list[list[str]]
) -> None:
    folder = write_run(tmp_path / "run", None, params={"tracking.model": "best"})
    assert model_process.log(folder, URI) == "error: it cannot be exported"
    assert started[0][-2:] == [str(folder), "best"]
    assert URI not in " ".join(started[0])
