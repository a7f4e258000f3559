"""Predictions for rows of a table and for texts, against what the run's own validation gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import experiments
from experiments.errors import ConfigError, DataError
from experiments.runs import rows_prediction

PLAIN = ["tracking=none", "figures=false", "epochs=1", "model=logistic", "device.threads=1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a run on a table with a real target."""
    rows = [f"{i * 7 % 31},{'ab'[i % 2]},{'true' if i % 3 else 'false'},{i * 7 % 31 + i % 2}.5" for i in range(60)]
    (tmp_path / "own.csv").write_text("\n".join(["area,kind,garden,price", *rows]))
    data = ["dataset=table", f"dataset.path={tmp_path / 'own.csv'}", "dataset.target=price"]
    result = experiments.run([*PLAIN, *data, "loss=mse", "metrics=none", f"hydra.run.dir={tmp_path / 'run'}"])
    assert result.folder is not None
    return Path(result.folder)


def test_a_row_is_predicted_in_the_targets_unit(folder: Path) -> None:
    one = rows_prediction.rows(folder, "area=14,kind=a,garden=true", None)
    table = folder.parent / "rows.csv"
    table.write_text("garden,kind,area\ntrue,a,14\n")
    assert rows_prediction.rows(folder, None, table) == one
    spec = rows_prediction.RowReader(folder, "columns").spec
    area, goal = spec.extra["columns"][0], spec.extra["targets"][0]
    x = torch.tensor([[(14 - area["mean"]) / area["std"], 1, 0, 1]])
    expected = experiments.load(folder)(x).item() * goal["std"] + goal["mean"]
    assert one == [{"price": pytest.approx(expected, rel=1e-5)}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("area=1,kind=a", "names no column 'garden'"),
        ("area=big,kind=a,garden=true", "row 1 holds 'big', which is not a number"),
        ("area=1,kind=a,garden=true,rooms=3", "'rooms', which is not an input"),
        ("area=,kind=a,garden=true", "column area has a missing value"),
    ],
)
def test_a_bad_row_is_refused(row: str, reason: str, folder: Path) -> None:
    with pytest.raises(DataError, match=reason):
        rows_prediction.rows(folder, row, None)


def test_an_unknown_category_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows_prediction.rows(folder, "area=1,kind=z,garden=true", None)
    assert "kind=z is unknown to the training rows" in capsys.readouterr().err


def test_a_run_on_a_table_reads_no_text(folder: Path) -> None:
    with pytest.raises(ConfigError, match="--text what dataset=text did"):
        rows_prediction.text(folder, "a", 1)
