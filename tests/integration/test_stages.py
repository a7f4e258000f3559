"""The tutorial's fourteen stages: each one file, each differing from the one before in what it is about."""

from __future__ import annotations

import functools
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import experiments
from experiments.config import check, compose
from experiments.config import root as configuration
from experiments.training import weights
from tests.support import raw_journal
from tests.support.places import ROOT

STAGES = sorted(path.stem for path in (ROOT / "conf" / "stage").glob("*.yaml"))

# What each stage changes against the one before, and nothing else: the tutorial's table.
CHANGES: dict[str, dict[str, Any]] = {
    "02_functional": {"model.name": "logistic_logits", "loss.name": "cross_entropy"},
    "03_module": {"model.name": "logistic_parameters"},
    "04_linear": {"model.name": "logistic"},
    "05_optim": {"optim.name": "sgd", "optim.momentum": 0.0, "optim.weight_decay": 0.0, "optim.fused": True},
    "06_tensor_dataset": {"loader.name": "tensor_dataset"},
    "07_dataloader": {"loader.name": "dataloader", "loader.num_workers": 0},
    "08_validation": {"loader.shuffle": True, "evaluation.mean": "batches"},
    "09_fit": {"evaluation.mean": "samples"},
    "10_cnn": {"model.name": "cnn", "optim.lr": 0.1, "optim.momentum": 0.9},
    "11_sequential": {"model.name": "cnn_sequential"},
    "12_wrapped_dataloader": {"model.name": "cnn_adaptive", "model.width": 16, "loader.name": "wrapped_dataloader"},
    "13_gpu": {"device.name": "auto", "init_from": "12_wrapped_dataloader"},
    "14_mnist_sample": {"init_from": None, "loader.shuffle": False, "loader.valid_shuffle": True},
}

SMALL = ["dataset=mnist_5k", "tracking=none", "figures=false"]
_trained: dict[str, experiments.Result] = {}


@functools.cache
def composed(stage: str) -> dict[str, Any]:
    return check.resolve(compose.compose([f"stage={stage}"]))


def settings(stage: str) -> dict[str, Any]:
    return configuration.flatten({key: value for key, value in composed(stage).items() if key != "tutorial"})


def words(stage: str) -> dict[str, Any]:
    tutorial = composed(stage)["tutorial"]
    assert isinstance(tutorial, dict)
    return tutorial


@pytest.fixture
def train(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each stage trained once on the 5,000 digits, in one place, however many tests ask for it."""
    place = tmp_path_factory.getbasetemp() / "stages"
    place.mkdir(exist_ok=True)
    monkeypatch.chdir(place)

    def call(stage: str) -> experiments.Result:
        if stage not in _trained:
            _trained[stage] = experiments.run([f"stage={stage}", *SMALL])
        return _trained[stage]

    return call


def test_there_are_fourteen_stages() -> None:
    assert len(STAGES) == 14
    assert [words(stage)["number"] for stage in STAGES] == list(range(1, 15))


@pytest.mark.parametrize(("before", "stage"), list(pairwise(STAGES)))
def test_neighbours_differ_in_exactly_what_the_stage_is_about(before: str, stage: str) -> None:
    old, new = settings(before), settings(stage)
    assert {key: value for key, value in new.items() if key not in old or old[key] != value} == CHANGES[stage]
    assert set(old) - set(new) <= {"loader.num_workers"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_file_lists_all_its_choices(stage: str) -> None:
    text = (ROOT / "conf" / "stage" / f"{stage}.yaml").read_text(encoding="utf-8")
    groups = [
        "dataset",
        "model",
        "loss",
        "optim",
        "loader",
        "scheduler",
        "device",
        "transforms",
        "metrics",
        "callbacks",
    ]
    assert all(f"- override /{group}: " in text for group in groups)
    assert all(f"\n{key}:" in text for key in ("epochs", "init_from", "optim", "loader", "evaluation", "tutorial"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_told_in_english_and_uzbek(stage: str) -> None:
    told = words(stage)
    for part in ("title", "changes", "why", "gain"):
        assert set(told[part]) == {"en", "uz"}
        assert all(text.strip() for text in told[part].values())
        assert told[part]["en"] != told[part]["uz"]


def test_the_printed_figures_are_the_tutorials() -> None:
    assert words("01_tensors")["prints"] == {
        "tutorial/untrained_first_batch_loss": 2.2699,
        "tutorial/untrained_first_batch_accuracy": 0.0938,
        "tutorial/last_batch_loss": 0.0813,
        "tutorial/last_batch_accuracy": 1.0,
    }
    assert words("09_fit")["prints"] == {"valid/loss": [0.29393543709516523, 0.3258970961511135]}
    assert words("13_gpu")["prints"] == {"valid/loss": [0.18234353145360946, 0.16786567342281342]}
    assert words("14_mnist_sample")["prints"] == {}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_learns(stage: str, train: Any) -> None:
    result = train(stage)
    assert len(result.history) == 2
    assert result.best_valid_loss < result.untrained["untrained/valid_loss"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_measures_what_the_tutorial_prints(stage: str, train: Any) -> None:

    series = raw_journal.summary(train(stage).folder)["series"]
    for name, printed in words(stage)["prints"].items():
        assert len(series[name]) == (len(printed) if isinstance(printed, list) else 1)


@pytest.mark.parametrize(
    ("before", "stage"), [("05_optim", "06_tensor_dataset"), ("06_tensor_dataset", "07_dataloader")]
)
def test_another_way_to_the_same_batches_changes_no_bit(before: str, stage: str, train: Any) -> None:
    assert _losses(train(before)) == _losses(train(stage))


@pytest.mark.parametrize(
    ("before", "stage"),
    [("01_tensors", "02_functional"), ("02_functional", "03_module"), ("10_cnn", "11_sequential")],
)
def test_a_refactoring_of_the_model_keeps_the_losses(before: str, stage: str, train: Any) -> None:
    assert _losses(train(before)) == pytest.approx(_losses(train(stage)), rel=1e-4)


def test_stage_4_and_5_agree_to_the_last_bit(train: Any) -> None:
    assert _losses(train("04_linear")) == _losses(train("05_optim"))


def test_stage_8_reports_another_mean_of_the_same_training_as_stage_9(train: Any) -> None:
    one, other = train("08_validation"), train("09_fit")
    assert [figures["train/loss"] for figures in one.history] == [figures["train/loss"] for figures in other.history]
    assert one.history[0]["valid/loss"] != other.history[0]["valid/loss"]


def test_stage_13_goes_on_from_stage_12(train: Any) -> None:
    before, after = train("12_wrapped_dataloader"), train("13_gpu")
    assert after.untrained["untrained/valid_loss"] == before.history[-1]["valid/loss"]


def test_stage_13_trains_stage_12_itself_where_nobody_has(workplace: Path, train: Any) -> None:
    alone = experiments.run(["stage=13_gpu", *SMALL])
    assert alone.history[-1]["valid/loss"] == train("13_gpu").history[-1]["valid/loss"]


def test_a_run_can_start_from_another_runs_folder(train: Any) -> None:
    folder = train("12_wrapped_dataloader").folder
    result = experiments.run(["stage=12_wrapped_dataloader", f"init_from={folder}", "epochs=1", *SMALL])
    assert result.untrained["untrained/valid_loss"] == train("12_wrapped_dataloader").history[-1]["valid/loss"]


def test_weights_of_another_shape_are_refused(train: Any) -> None:
    folder = train("12_wrapped_dataloader").folder
    with pytest.raises(experiments.ConfigError, match=f"init_from: the weights of {folder} do not fit this model"):
        experiments.run(["model=logistic", f"init_from={folder}", *SMALL])


def test_a_folder_of_own_configuration_that_is_not_there_is_refused(workplace: Path) -> None:
    with pytest.raises(experiments.ConfigError, match="config_dir: there is no folder nope"):
        experiments.run(SMALL, config_dir="nope")


def test_a_misspelt_stage_to_start_from_is_told_with_the_nearest(workplace: Path) -> None:
    with pytest.raises(experiments.ConfigError, match="nor a stage; did you mean '13_gpu'"):
        experiments.run(["init_from=13_gpus", *SMALL])


def test_a_stage_in_a_users_own_folder_can_be_started_from(workplace: Path) -> None:
    folder = workplace / "it's my conf, really"
    (folder / "stage").mkdir(parents=True)
    (folder / "stage" / "own.yaml").write_text("# @package _global_\nepochs: 1\n", encoding="utf-8")
    first = experiments.run(["stage=own", *SMALL], config_dir=folder)
    result = experiments.run(["init_from=own", *SMALL], config_dir=folder)
    assert result.untrained["untrained/valid_loss"] == first.history[-1]["valid/loss"]


@pytest.mark.parametrize("name", ["nowhere", "0" * 32, "no such/place"])
def test_starting_from_nothing_is_refused(name: str, workplace: Path) -> None:
    with pytest.raises(experiments.ConfigError, match=f"init_from: .*{name}"):
        experiments.run([f"init_from='{name}'", *SMALL])


def test_damaged_weights_are_refused(train: Any, tmp_path: Path) -> None:
    content = (train("12_wrapped_dataloader").folder / weights.FILE).read_bytes()
    (tmp_path / weights.FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(experiments.ConfigError, match="init_from: .*cannot be read"):
        experiments.run(["model=cnn_adaptive", f"init_from={tmp_path}", *SMALL])


def test_the_seed_decides_everything_on_one_machine(train: Any, workplace: Path) -> None:
    again = experiments.run(["stage=12_wrapped_dataloader", *SMALL])
    first = train("12_wrapped_dataloader")
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])


def test_another_seed_gives_another_run(train: Any, workplace: Path) -> None:
    other = experiments.run(["stage=12_wrapped_dataloader", "seed=1", *SMALL])
    assert _losses(other) != _losses(train("12_wrapped_dataloader"))


def _losses(result: experiments.Result) -> list[float]:
    return [figures[name] for figures in result.history for name in ("train/loss", "valid/loss")]
