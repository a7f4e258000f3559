"""The closing lines of runs and sweeps: links, what each shows, and the command for the rest."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from experiments import live
from experiments.runs import terminal
from experiments.tracking.delivered import Delivered

URI = "sqlite:////tmp/nowhere/mlflow.db"


def printed(runs: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> str:
    state = Delivered(store=URI, experiment_id="1", run_id=32 * "a")
    monkeypatch.setattr("experiments.tracking.delivered.state", lambda _folder: state)
    with caplog.at_level(logging.INFO):
        terminal.arrived(URI, [Path(str(number)) for number in range(runs)], [], Path("sweep"))
    return caplog.text


@pytest.mark.parametrize(("runs", "expected"), [(1, False), (10, False), (11, True)])
def test_more_runs_than_mlflow_charts_at_first_are_told_apart(
    runs: int, expected: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (f"10 of the {runs} runs at first" in printed(runs, caplog, monkeypatch)) == expected


@pytest.mark.parametrize(("runs", "screen", "expected"), [(14, True, True), (14, False, False), (1, True, False)])
def test_where_an_address_is_shown_cut_a_command_prints_it_whole(
    runs: int, screen: bool, expected: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "terminal", lambda: object() if screen else None)
    assert ("experiments.compare prints it whole" in printed(runs, caplog, monkeypatch)) == expected
