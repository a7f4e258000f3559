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


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (["max_grad_norm=0.5"], [], "The run, .* has another max_grad_norm; one script"),
        (["deterministic=true"], [], "has another deterministic;"),
        (["device.threads=1"], [], "has another device.threads;"),
        (["device.channels_last=true"], [], "has another device.channels_last;"),
        (["dataset.seed=1"], [], "was trained on other data than synthetic is now;"),
        ([], ["scheduler=cosine"], "has another scheduler;"),
        (["scheduler=step"], ["scheduler=cosine"], "has another scheduler;"),
        (["callbacks=early_stopping"], [], "has early stopping, which a script has not"),
        ([*STOPS, "epochs=5"], [], "has early stopping"),
    ],
)
def test_weights_of_another_kind_of_training_are_refused(
    before: list[str], now: list[str], told: str, workplace: Path
) -> None:
    first = experiments.run([*SMALL, "model=mlp", *before])
    with pytest.raises(experiments.ConfigError, match=f"init_from: .*{told}"):
        export([*SMALL, "model=mlp", f"init_from={first.folder}", *now])


def test_weights_of_a_run_that_did_not_end_are_refused(workplace: Path) -> None:
    folder = experiments.run([*SMALL, "model=mlp"]).folder
    assert folder is not None
    lines = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    last = max(index for index, line in enumerate(lines) if '"train/loss"' in line)
    (folder / "journal.jsonl").write_text("".join(lines[:last]))
    with pytest.raises(experiments.ConfigError, match="trained 1 of its 2 epochs; a script trains all of them"):
        export([*SMALL, "model=mlp", f"init_from={folder}"])


def test_trainings_with_schedulers_of_one_kind_go_into_one_script(workplace: Path) -> None:
    first = experiments.run([*SMALL, "model=mlp", "scheduler=one_cycle"])
    overrides = [*SMALL, "model=mlp", f"init_from={first.folder}", "scheduler=cosine"]
    losses = measured(first) + measured(experiments.run(overrides))
    assert run_script(exported(overrides, workplace)) == losses
