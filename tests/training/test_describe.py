"""A model's layers and the cost of a step, against numbers worked out by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.components.models.tensors import TensorModel
from experiments.training import describe
from tests.support.commands import SMALL, command
from tests.support.training import BATCH, SPLITS, make
from tests.sweeps.test_preview import no_uploader


class Pair(nn.Module):
    """Two outputs of one part, by name or in a tuple, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.both = nn.LSTM(4, 5, batch_first=True)
        self.named = Named()
        self.head = nn.Linear(5, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.both(x.view(-1, 4, 4))
        head: Tensor = self.head(self.named(out[:, -1])["first"])
        return head * self.scale


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)

    def forward(self, xs: tuple[Tensor, Tensor]) -> Tensor:
        return self.head(xs[0] + xs[1])  # type: ignore[no-any-return]


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"first": x, "second": x.sum()}


def test_each_layer_has_its_output_its_parameters_and_its_products() -> None:
    rows, _ = describe.layers(make())
    assert [tuple(row.values()) for row in rows] == [
        ("0", "Linear", f"{BATCH} x 8", "136", "128"),
        ("1", "ReLU", f"{BATCH} x 8", "0", "0"),
        ("2", "Linear", f"{BATCH} x 3", "27", "24"),
    ]


def test_a_step_costs_its_products_forward_and_back() -> None:
    # Forward both layers; back each layer's weights, and the second one's input.
    products = BATCH * (16 * 8 + 8 * 3) * 2 + BATCH * 8 * 3
    assert f"a training step of {BATCH} rows: {2 * products:,} FLOPs" in describe.layers(make())[1]


def test_the_whole_model_is_counted_frozen_parts_as_well() -> None:
    runner = make()
    runner.model[0].requires_grad_(requires_grad=False)
    assert describe.layers(runner)[1].startswith("163 parameters, 27 of them trained; ")


def test_tuples_names_own_parameters_and_layers_that_are_not_called_are_shown() -> None:
    rows = {row["layer"]: row for row in describe.layers(make(model=Pair()))[0]}
    assert rows["(model)"]["parameters"] == "1" and rows["unused"]["output"] == "not called"
    assert rows["both"]["output"] == f"({BATCH} x 4 x 5, (1 x {BATCH} x 5, 1 x {BATCH} x 5))"
    assert rows["named"]["output"] == f"({BATCH} x 5, 1 number)"


def test_rows_of_several_inputs_are_counted_as_rows() -> None:
    runner, batch = make(), torch.ones(BATCH, 8)
    runner.model = TwoInputs()
    runner.train_steps = lambda _: iter([((batch, batch), None, runner.model((batch, batch)), None)])  # type: ignore[assignment,method-assign]
    rows, line = describe.layers(runner)
    assert rows[0]["MACs of a row"] == "16" and f"of {BATCH} rows" in line


def test_a_model_without_modules_shows_its_tensors() -> None:
    model = TensorModel(SPLITS.spec)
    rows, total = describe.layers(make(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1)))
    assert [tuple(row.values()) for row in rows] == [("weights", "16 x 3", "48"), ("bias", "3", "3")]
    assert total.startswith("51 parameters") and f"{2 * 2 * BATCH * 16 * 3:,} FLOPs" in total


@pytest.mark.parametrize("settings", [[], ["device.compile=true"], ["model=logistic_tensors", "loss=nll_by_hand"]])
def test_a_command_shows_them_and_starts_nothing(settings: list[str], workplace: Path) -> None:
    without_model = [one for one in SMALL if not one.startswith("model.") or len(settings) < 2]
    done = command(*without_model, *settings, "tracking=mlflow", "describe=true", before=no_uploader)
    assert done.code == 0, done
    assert "parameters" in done.out and "FLOPs" in done.out
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("sweep", [["-m"], ["-m", "seed=0,1"]])
def test_a_sweep_has_no_one_model_to_show(sweep: list[str], workplace: Path) -> None:
    done = command(*sweep, *SMALL, "describe=true")
    assert (done.code, done.err) == (2, "error: describe: it shows the model of one run; give it without -m\n")
    assert list(workplace.iterdir()) == []


def test_from_python_it_is_refused(workplace: Path) -> None:
    import experiments

    with pytest.raises(experiments.ConfigError, match=r"^describe: it works with python -m experiments"):
        experiments.run([*SMALL, "describe=true"])


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "None"), (torch.zeros(2, 3), "a tensor of the shape (2, 3)"), (partial(int), "a partial")],
)
def test_a_value_in_words(value: Any, said: str) -> None:
    assert describe.kind(value) == said
