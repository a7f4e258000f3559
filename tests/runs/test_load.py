"""Runs that are there: found again, and their models loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import experiments
from experiments.export_script.exporting import export
from experiments.runs import load
from experiments.runs.evaluation import evaluate
from experiments.runs.find import find, run_in
from experiments.seeds import noise_state, same_noise
from experiments.training.build import load_dataset

SMALL = ["dataset=synthetic", "dataset.shape=[1,4,4]", "dataset.train=80", "dataset.valid=20", "model=mlp"]
SMALL += ["tracking=none", "figures=false", "epochs=1", "device=cpu"]

pytestmark = pytest.mark.quick  # whole runs, so that these too are seen where one looks quickly


@pytest.fixture
def result(tmp_path: Path) -> experiments.Result:
    return experiments.run([*SMALL, f"output_root={tmp_path / 'outputs'}"])


def test_a_loaded_model_is_the_trained_one_bit_for_bit(result: experiments.Result) -> None:
    assert result.folder is not None
    loaded = experiments.load(result.folder)
    trained = result.model.state_dict()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in loaded.state_dict().items())
    assert not loaded.training


def test_a_run_its_loading_and_its_evaluation_leave_the_callers_random_streams_alone(tmp_path: Path) -> None:
    before = noise_state(torch.device("cpu"))
    result = experiments.run([*SMALL, f"output_root={tmp_path / 'outputs'}"])
    experiments.load(result)
    evaluate(result)
    assert same_noise(noise_state(torch.device("cpu")), before)


def test_the_data_spec_is_known_without_the_data(result: experiments.Result) -> None:
    assert result.folder is not None
    assert load.data_spec(result.folder) == load_dataset(load.configuration(result.folder).dataset).spec


def test_other_settings_change_the_configuration_of_a_run_that_is_there(result: experiments.Result) -> None:
    assert result.folder is not None
    assert load.configuration(result.folder, ["dataset.seed=5"]).dataset["seed"] == 5


@pytest.mark.parametrize("look", [experiments.load, evaluate, lambda result: export([str(result.folder)])])
def test_who_looks_at_a_run_is_not_asked_for_the_password_of_its_store(
    look: Callable[[experiments.Result], object], result: experiments.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [*(word for word in SMALL if word != "tracking=none"), "tracking.uri=https://me:***@host"]
    monkeypatch.setattr(load, "run_in", lambda folder: replace(run_in(folder), overrides=said))
    assert look(result)


def test_an_unknown_run_names_the_latest_one(result: experiments.Result, tmp_path: Path) -> None:
    with pytest.raises(experiments.ConfigError, match=r"no run; .*the latest is .*outputs/runs"):
        find("outputs/runs/nowhere", tmp_path / "outputs")


def test_an_unknown_id_is_told(tmp_path: Path) -> None:
    with pytest.raises(experiments.ConfigError, match="has the MLflow id"):
        find("0" * 32, tmp_path)


def test_a_run_without_weights_is_told(result: experiments.Result) -> None:
    assert result.folder is not None
    (result.folder / "weights.pt").unlink()
    with pytest.raises(experiments.ConfigError, match=r"has no weights\.pt"):
        experiments.load(result.folder)
