"""How often a run's test rows were looked at is counted in its folder and in MLflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import experiments
from experiments.errors import ConfigError
from experiments.runs import ledger
from experiments.runs.evaluation import evaluate
from experiments.tracking import journal

SMALL = ["model=mlp", "model.width=8", "device=cpu", "epochs=1", "figures=false", "optim.lr=0.01"]


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """The option of a dataset with test rows."""
    splits = {"train": 40, "valid": 20, "test": 20}
    images = {f"x_{name}": np.zeros((count, 4), dtype=np.float32) for name, count in splits.items()}
    labels = {f"y_{name}": np.arange(count) % 2 for name, count in splits.items()}
    np.savez(tmp_path / "rows.npz", allow_pickle=False, **images, **labels)
    return f"dataset.path={tmp_path / 'rows.npz'}"


def trained(folder: Path, rows: str, *overrides: str) -> Path:
    result = experiments.run([*SMALL, "dataset=arrays", rows, *overrides, f"output_root={folder / 'outputs'}"])
    assert result.folder is not None
    return result.folder


def test_each_look_at_the_test_rows_is_counted(tmp_path: Path, rows: str) -> None:
    folder = trained(tmp_path, rows, "tracking=none")
    assert ledger.looks(folder) == 0
    assert [(evaluate(folder, split="test"), ledger.looks(folder))[1] for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("split", ["train", "valid"])
def test_other_rows_are_not_counted(split: str, tmp_path: Path, rows: str) -> None:
    folder = trained(tmp_path, rows, "tracking=none")
    evaluate(folder, split=split)  # type: ignore[arg-type]  # one of the three
    assert ledger.looks(folder) == 0


def test_test_rows_of_a_run_that_has_not_ended_are_refused(tmp_path: Path, rows: str) -> None:
    folder = trained(tmp_path, rows, "tracking=none")
    kept = [line for line in (folder / journal.FILE).read_text("utf-8").splitlines() if '"end"' not in line]
    (folder / journal.FILE).write_text("\n".join(kept) + "\n", "utf-8")
    with pytest.raises(ConfigError, match="test rows are for a run that has ended"):
        evaluate(folder, split="test")
    assert evaluate(folder, split="valid")


def test_a_look_that_cannot_be_written_is_told(
    tmp_path: Path, rows: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = trained(tmp_path, rows, "tracking=none")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "tag", full)
    assert evaluate(folder, split="test")
    assert "No space left on device), so this look at the test rows is not counted" in caplog.text
