"""What one script cannot hold of a run is refused, and what it leaves out is told: nothing differs without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

import experiments
from experiments.export_script.exporting import export

from .scripts import exported, measured, run_script
from .test_export_script import SMALL
from .training import one_thread  # noqa: F401  # a fixture of every test here

# A training that ends after its second epoch, whatever it comes to.
STOPS = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=100"]


@pytest.mark.parametrize("scheduler", ["one_cycle", "cosine"])
def test_a_run_that_ended_early_keeps_the_schedule_over_all_its_epochs(scheduler: str, workplace: Path) -> None:
    result = experiments.run([*SMALL, *STOPS, "model=mlp", "epochs=5", f"scheduler={scheduler}"])
    assert len(result.history) == 2
    assert run_script(exported([str(result.folder)], workplace), "rows.npz") == measured(result)


def test_a_run_that_ended_early_is_told_to_be_one(workplace: Path) -> None:
    result = experiments.run([*SMALL, *STOPS, "model=mlp", "epochs=5"])
    assert export([str(result.folder)]).notes == ["It trains 2 of 5 epochs, as the run did."]
