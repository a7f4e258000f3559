"""A run that starts from trained weights has more epochs behind it than its own: labels, table and notes show them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from experiments.compare import curves, rows
from experiments.compare.comparison import Comparison, compare
from experiments.compare.selection import choose
from experiments.config.language import ENGLISH, Language
from tests.support.compared import run

METRIC = "valid/loss"
HEAD = "epochs\nbefore"


@pytest.fixture
def outputs(workplace: Path) -> Path:
    (workplace / "outputs").mkdir()
    return workplace / "outputs"


def trained(folder: Path, losses: Sequence[float], init_from: object = "null", **details: Any) -> Path:
    """A run of two epochs, as its settings say, or of fewer."""
    return run(folder, losses, settings={"init_from": str(init_from), "epochs": "2"}, **details)


def stage(folder: Path, name: str, init_from: str = "null", **details: Any) -> Path:
    return trained(folder, [0.5, 0.4], init_from, tags={"stage": name}, **details)


def laid(say: Language = ENGLISH) -> Comparison:
    return compare(choose(["outputs"], Path("outputs"))[0], METRIC, None, say)


def shown(comparison: Comparison) -> list[str]:
    return [row.get(HEAD, "") for row in rows.rows(comparison)]


def test_a_stage_that_trains_on_shows_the_other_stages_epochs_in_label_table_and_notes(outputs: Path) -> None:
    stage(outputs / "a", "10_cnn")
    stage(outputs / "b", "13_gpu", "12_wrapped_dataloader")
    comparison = laid()
    label = "13_gpu (+2 epochs, from 12_wrapped_dataloader)"
    assert [run.label for run in comparison.runs] == ["10_cnn", label]
    assert shown(comparison) == ["0", "2"]
    assert comparison.notes == [f"{label} started from trained weights: more epochs are a part of its difference"]


def test_the_legend_of_the_picture_shows_them_too(outputs: Path) -> None:
    stage(outputs / "a", "10_cnn")
    trained(outputs / "b", [0.4, 0.3], "12_wrapped_dataloader", tags={"stage": "13_gpu"})
    labels = [curve.label.replace("\n", " ") for curve in curves.curves(laid(), "epoch")]
    assert labels == ["10_cnn", "13_gpu (+2 epochs, from 12_wrapped_dataloader)"]


def test_a_stage_was_trained_for_the_epochs_of_the_command_line(outputs: Path) -> None:
    stage(outputs / "a", "10_cnn")
    settings = {"init_from": "12_wrapped_dataloader", "epochs": "5"}
    run(outputs / "b", [0.4], settings=settings, tags={"stage": "13_gpu"}, overrides=["epochs=5"])
    run(outputs / "c", [0.4], settings=settings, tags={"stage": "mine"})  # five in a preset: not the stage's
    assert shown(laid()) == ["0", "5", "2"]


def test_of_a_chain_of_runs_all_epochs_count(outputs: Path) -> None:
    first = trained(outputs / "a", [0.5, 0.4, 0.3])
    second = trained(outputs / "b", [0.3, 0.2], first)
    trained(outputs / "c", [0.2], second)
    comparison = laid()
    assert shown(comparison) == ["0", "3", "5"]
    assert comparison.runs[2].label == f"init_from={second} (+5 epochs)"


def test_a_path_means_what_it_meant_where_the_run_was_started(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained(outputs / "a", [0.5])
    trained(outputs / "b", [0.4], "outputs/a", place={"folder": str(outputs.parent)})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    jobs, _ = choose([str(outputs)], outputs)
    assert shown(compare(jobs, METRIC)) == ["0", "1"]


@pytest.mark.parametrize("source", ["outputs/gone", "ab" * 16, "my_stage"])
def test_a_source_that_is_gone_is_an_unknown_number(source: str, outputs: Path) -> None:
    trained(outputs / "a", [0.5])
    trained(outputs / "b", [0.4], source)
    comparison = laid()
    assert shown(comparison) == ["0", "?"]
    assert comparison.runs[1].label == f"init_from={source} (+? epochs)"


def test_runs_that_all_start_from_the_same_weights_show_nothing_of_it(outputs: Path) -> None:
    stage(outputs / "a", "13_gpu", "12_wrapped_dataloader")
    stage(outputs / "b", "mine", "12_wrapped_dataloader")
    comparison = laid()
    assert shown(comparison) == ["", ""]
    assert [run.label for run in comparison.runs] == ["13_gpu", "mine"] and comparison.notes == []


def test_seeds_of_such_a_run_are_one_group(outputs: Path) -> None:
    for seed in range(2):
        stage(outputs / f"a{seed}", "10_cnn", seed=seed)
        stage(outputs / f"b{seed}", "13_gpu", "12_wrapped_dataloader", seed=seed)
    groups = {run.group for run in laid().runs}
    assert groups == {"10_cnn", "13_gpu (+2 epochs, from 12_wrapped_dataloader)"}


def test_in_uzbek(outputs: Path) -> None:
    stage(outputs / "a", "10_cnn")
    stage(outputs / "b", "13_gpu", "12_wrapped_dataloader")
    assert laid(Language("uz")).runs[1].label == "13_gpu (+2 epoxa, 12_wrapped_dataloader vaznlaridan)"
