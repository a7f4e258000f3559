"""What is shown at the end of a run of the trained model's predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import experiments
from experiments.components.datasets.digits import digits
from experiments.config.registry import register
from experiments.doctor import history
from experiments.tracking import figures
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here


@pytest.mark.parametrize("lr", ["1e-9", "0.5"])
def test_a_class_that_is_never_predicted_is_named(lr: str, workplace: Path) -> None:
    result = experiments.run(
        ["dataset=digits", "model=mlp", "model.depth=3", "epochs=10", f"optim.lr={lr}", "tracking=none"]
    )
    x, _ = digits().valid.floats()
    with torch.no_grad():
        never = sorted(set(range(10)) - set(result.model(x).argmax(1).tolist()))
    assert bool(never) == (lr == "1e-9")  # an untrained network of that depth predicts few of them
    assert result.folder is not None
    found = {each.rule: each.evidence for each in history.rule.findings(history.observe(result.folder))}
    named = found.get("class-never-predicted", ": ").rpartition(": ")[2]
    assert named == ", ".join(map(str, never))


Rows = dict[str, object]


def rows(x: np.ndarray | dict[str, np.ndarray], y: np.ndarray, **more: object) -> Rows:
    """A dataset of these rows."""
    return {"train": (x, y), "valid": (x, y), **more}


NUMBERS, IMAGES = np.random.default_rng(0).random((32, 5), "f4"), np.random.default_rng(0).random((32, 1, 6, 6), "f4")
LABELS = np.arange(32) % 3
LOSSES = {"loss_curves"}
SHOWN = {"first_digit", "digits"}
DATA: dict[str, tuple[Rows, set[str], list[str]]] = {
    "numbers": (rows(NUMBERS, LABELS), LOSSES | {"confusion_matrix"}, []),
    "tokens": (rows(np.arange(160).reshape(32, 5) % 7, LABELS), LOSSES | {"confusion_matrix"}, []),
    "images": (rows(IMAGES, LABELS), LOSSES | SHOWN | {"confusion_matrix", "worst_mistakes"}, []),
    "five channels": (rows(IMAGES.reshape(32, 1, 6, 6).repeat(5, 1), LABELS), LOSSES | {"confusion_matrix"}, []),
    "columns": (rows(IMAGES, IMAGES.reshape(32, 36)), LOSSES | SHOWN, ["loss=mse"]),
    "several inputs": (
        rows({"a": NUMBERS, "b": NUMBERS}, LABELS),
        LOSSES | {"confusion_matrix"},
        [],
    ),
    "places": (rows(IMAGES, np.zeros((32, 6, 6), "i8"), classes=2), LOSSES | SHOWN, []),
}


class Net(torch.nn.Module):
    """A linear model of any rows; of labels for places, two numbers a place."""

    def __init__(self, outputs: int, places: tuple[int, ...]) -> None:
        super().__init__()
        self.linear, self.shape = torch.nn.LazyLinear(outputs * int(np.prod(places))), (-1, outputs, *places)

    def forward(self, x: torch.Tensor | dict[str, torch.Tensor]) -> torch.Tensor:
        x = x["a"] + x["b"] if isinstance(x, dict) else x
        return self.linear(x.flatten(1).float()).view(self.shape)  # type: ignore[no-any-return]


def picture_net(data: experiments.DataSpec) -> Net:
    """The net, for a dataset."""
    net = Net(data.outputs, data.places)
    x = torch.zeros(1, *(data.shape if isinstance(data.shape, tuple) else data.shape["a"]))
    net({"a": x, "b": x} if not isinstance(data.shape, tuple) else x)
    return net


def trained(monkeypatch: pytest.MonkeyPatch, content: Rows, *overrides: str) -> Path:
    """The folder of a run on these rows, with its plots drawn."""
    if "picture_net" not in register.model.names:
        register.model("picture_net")(picture_net)
        register.dataset("pictured")(lambda: CONTENT[-1])
    CONTENT.append(content)
    monkeypatch.setattr("experiments.training.build._loaded", {})
    chosen = ["dataset=pictured", "model=picture_net", "epochs=1", "tracking=none", "metrics=none", *overrides]
    folder = experiments.run(chosen).folder
    assert folder is not None
    return folder


CONTENT: list[Rows] = []


@pytest.mark.parametrize("name", DATA)
def test_what_does_not_apply_is_left_out_in_silence(
    name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    content, plots, overrides = DATA[name]
    folder = trained(monkeypatch, content, *overrides)
    assert {path.stem for path in (folder / "figures").glob("*.png")} == plots
    assert [each.message for each in caplog.records if "run is kept" in each.message] == []


def test_a_model_that_cannot_be_asked_again_keeps_its_run_and_the_other_plots(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr("experiments.runs.pictures._predictions", fails)
    folder = trained(monkeypatch, DATA["images"][0])
    assert {path.stem for path in (folder / "figures").glob("*.png")} == LOSSES | SHOWN
    told = [each.message for each in caplog.records if "run is kept" in each.message]
    assert told == ["no plots of the predictions: RuntimeError: out of memory; the run is kept"]


def test_a_plot_that_fails_leaves_the_others(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(figures, "_confusion", lambda *_: 1 / 0)
    folder = trained(monkeypatch, DATA["images"][0])
    assert {path.stem for path in (folder / "figures").glob("*.png")} == LOSSES | SHOWN | {"worst_mistakes"}
    assert "no plot confusion_matrix: ZeroDivisionError: division by zero; the run is kept" in caplog.messages


def test_titles_of_many_columns_are_short() -> None:
    assert figures.label([], np.zeros(256)) == "0, 0, 0, 0, 0 ... 256"
    assert figures.label([], np.zeros(3)) == "0, 0, 0"
    assert figures.label(["a", "b"], np.array([0, 1])) == "0, 1"
    assert figures.label([], np.zeros((4, 4))) == ""
