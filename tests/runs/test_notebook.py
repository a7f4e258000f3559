"""A run in a notebook's cell, shown while it trains; a stand-in takes the place of IPython."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import experiments
from experiments.runs import notebook
from tests.support.commands import SMALL


class Shown(list[Any]):
    """What the cell has shown, one after the other."""

    def update(self, value: Any) -> None:
        self.append(value)


def cell(monkeypatch: pytest.MonkeyPatch, shell: Any) -> Shown:
    shown = Shown()
    display = SimpleNamespace(display=lambda **_: shown, HTML=str)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell, display=display))
    monkeypatch.setattr(notebook, "SECONDS", -1)
    return shown


def test_in_a_notebook_the_result_grows_and_gives_way_to_what_the_run_returns(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = cell(monkeypatch, SimpleNamespace(kernel=object()))
    result = experiments.run([*SMALL, "epochs=2"])
    *growing, last = shown
    assert len(growing) == 2 and last == ""
    assert growing[-1].history == result.history and growing[-1].folder == result.folder


@pytest.mark.parametrize("shell", [None, SimpleNamespace()], ids=["a script", "a terminal's IPython"])
def test_elsewhere_nothing_is_shown(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = cell(monkeypatch, shell)
    live = notebook.Live()
    live.show("result")
    live.close()
    assert not shown


def test_it_is_not_drawn_more_often_than_a_reader_can_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = cell(monkeypatch, SimpleNamespace(kernel=object()))
    monkeypatch.setattr(notebook, "SECONDS", 3600.0)
    live = notebook.Live()
    live.show("result")
    assert not shown


def test_a_run_from_python_prints_to_standard_output(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    experiments.run([*SMALL, "epochs=1"])
    out, err = capsys.readouterr()
    assert "epoch 0  train/loss" in out and "parameters" in out.splitlines()[0] and not err
