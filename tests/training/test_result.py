"""The result of a training: its best epoch, what is NaN or infinite, and how a notebook shows it."""

from __future__ import annotations

import base64
import math
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.tracking import delivered
from experiments.tracking.delivered import Delivered
from experiments.training.result import Result, lowest, not_finite

NAN, INF = math.nan, math.inf
HISTORY = [
    {"train/loss": 0.9, "valid/loss": 0.8, "valid/accuracy": 0.5, "throughput/samples_per_second": 123456.7},
    {"train/loss": 0.4, "valid/loss": 0.3, "valid/accuracy": 0.9, "throughput/samples_per_second": 123456.7},
    {"train/loss": 0.2, "valid/loss": 0.7, "valid/accuracy": 0.8, "throughput/samples_per_second": 123456.7},
]


def result(folder: Path | None = None) -> Result:
    return Result(None, {"untrained/valid_loss": 2.3}, HISTORY, folder=folder)


def page(shown: Result) -> str:
    return shown._repr_html_()


def test_the_figure_has_the_losses_of_the_epochs() -> None:
    figure = result().plot()
    lines = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in figure.axes[0].lines}
    assert lines["train/loss"] == [0.9, 0.4, 0.2] and lines["valid/loss"] == [0.8, 0.3, 0.7]
    assert lines["untrained/valid_loss"] == [2.3, 2.3]


def test_a_notebook_shows_the_figure() -> None:
    figure = result().plot()
    assert isinstance(figure, Figure) and figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


def test_the_metrics_of_the_best_and_of_the_last_epoch_are_in_a_table() -> None:
    rows = re.findall(r"<tr><th>(.*?)</th><td>(.*?)</td><td>(.*?)</td></tr>", page(result()))
    assert ("valid/loss", "0.3000", "0.7000") in rows and ("valid/accuracy", "0.9000", "0.8000") in rows
    assert ("throughput/samples_per_second", "123,457", "123,457") in rows


def test_the_curve_is_in_the_page_itself() -> None:
    (curve,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page(result()))
    assert b"<svg" in base64.b64decode(curve)


def test_the_folder_and_the_link_are_there_once_they_are_known(tmp_path: Path) -> None:
    folder = tmp_path / "a & b"
    folder.mkdir()
    assert "run: " not in page(result()) and "MLflow" not in page(result(folder))
    assert "a &amp; b" in page(result(folder))
    delivered.write(folder, Delivered("sqlite:////x/mlflow.db", run_id="f" * 32, experiment_id="1"))
    assert f"http://127.0.0.1:5000/#/experiments/1/runs/{'f' * 32}" in page(result(folder))
    assert "experiments.ui --uri sqlite:////x/mlflow.db" in page(result(folder))
    delivered.write(folder, Delivered("https://server", run_id="f" * 32, experiment_id="1"))
    assert "https://server/#/experiments/1/runs/" in page(result(folder))
    assert "experiments.ui" not in page(result(folder))


@pytest.mark.parametrize(
    ("losses", "best"),
    [([NAN, 0.5, 0.3], 0.3), ([INF, 0.5], 0.5), ([NAN, INF], INF), ([-INF, 0.5], 0.5), ([0.5, NAN], 0.5)],
)
def test_the_lowest_loss_is_a_finite_one_where_there_is_one(losses: list[float], best: float) -> None:
    assert lowest(losses) == best
    history = [{"valid/loss": loss} for loss in losses]
    assert Result(None, {}, history).best_valid_loss == best


def test_the_lowest_of_nan_alone_is_nan() -> None:
    assert math.isnan(lowest([NAN, NAN]))


def test_each_metric_that_is_not_finite_is_named_with_its_first_epoch() -> None:
    history = [
        {"train/loss": 1.0, "valid/loss": 1.0, "mine": INF, "best/valid_loss": 1.0},
        {"train/loss": 1.0, "valid/loss": NAN, "mine": NAN, "best/valid_loss": 1.0},
        {"train/loss": 1.0, "valid/loss": NAN, "mine": 2.0, "best/valid_loss": NAN},
    ]
    assert not_finite(history) == {"mine": "mine is inf in epoch 0", "valid/loss": "valid/loss is nan in epoch 1"}
    assert not_finite(history[:1][:0]) == {}
