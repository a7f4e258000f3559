"""Overrides with interpolations are kept as the values that they had, so that a run resumes without its environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import raw_journal
from tests.support.commands import SMALL, command, resumed


@pytest.mark.parametrize("written", ["seed='${oc.decode:${oc.env:OURS}}'", 'seed="${oc.decode:${oc.env:OURS}}"'])
def test_a_run_whose_seed_came_from_the_environment_resumes_without_it(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    monkeypatch.setenv("OURS", "7")
    done = command(*SMALL, written, f"hydra.run.dir={folder}")
    assert done.code == 0, done
    monkeypatch.delenv("OURS")
    again = resumed(folder, "epochs=4")
    assert again.code == 0, again
    assert "seed=7" in raw_journal.read(folder)[0]["overrides"]


def test_a_text_with_an_interpolation_stays_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "7")
    done = command(*SMALL, "name='${oc.env:OURS}'", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.code == 0, done
    assert resumed(tmp_path / "run", "epochs=4").code == 0
    assert raw_journal.read(tmp_path / "run")[0]["name"] == "7"
