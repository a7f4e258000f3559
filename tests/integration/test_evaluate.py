"""`python -m experiments.evaluate`: a trained model measured again gives its own figures, on other data new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import experiments
from experiments import evaluate as command
from experiments.config.registry import register
from experiments.runs.evaluation import evaluate
from tests.support import raw_journal
from tests.support.forked import Ended, forked

SYNTHETIC = ["dataset=synthetic", "dataset.train=90", "dataset.valid=45", "dataset.classes=10"]
QUIET = ["tracking=none", "figures=false", "device=cpu", "epochs=2", "loader.batch_size=16"]
SMALL = [*SYNTHETIC, *QUIET, "model=mlp", "model.width=8"]
MEANT = ["loader.valid_batch_size=16", "evaluation.mean=batches"]


def train(folder: Path, *overrides: str) -> experiments.Result:
    return experiments.run([*overrides, f"output_root={folder / 'outputs'}"])


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> experiments.Result:
    return train(tmp_path_factory.mktemp("run"), *SMALL)


def folder_of(result: experiments.Result) -> Path:
    assert result.folder is not None
    return result.folder


def measured(result: experiments.Result) -> dict[str, float]:
    """The validation figures of the last epoch in the journal."""
    last = raw_journal.history(folder_of(result))[-1]
    return {name: value for name, value in last.items() if name.startswith("valid/")}


@pytest.mark.parametrize("loader", register.loader.names)
def test_a_runs_own_validation_gives_the_last_epochs_figures_bit_for_bit(loader: str, tmp_path: Path) -> None:
    result = train(tmp_path, *SMALL, f"loader={loader}", "loader.valid_batch_size=16")
    assert evaluate(folder_of(result)) == measured(result)


@pytest.mark.parametrize("model", ["logistic_tensors", "logistic", "cnn", "cnn_adaptive"])
def test_whatever_the_model_its_own_validation_gives_its_figures(model: str, tmp_path: Path) -> None:
    loss = ["loss=nll_by_hand"] if model == "logistic_tensors" else []
    result = train(tmp_path, *SYNTHETIC, *QUIET, f"model={model}", "optim.lr=0.01", *loss)
    assert evaluate(folder_of(result)) == measured(result)


@pytest.mark.parametrize(
    "settings",
    [["loader.valid_shuffle=true", "loader.valid_batch_size=16"], MEANT, ["transforms=normalize"], ["limit_batches=2"]],
)
def test_settings_of_the_run_hold_for_its_evaluation(settings: list[str], tmp_path: Path) -> None:
    result = train(tmp_path, *SMALL, *settings)
    assert evaluate(folder_of(result)) == measured(result)


def test_a_run_that_callbacks_watched_is_measured_without_them(tmp_path: Path) -> None:
    result = train(tmp_path, *SMALL, "callbacks=early_stopping", "callbacks.early_stopping.monitor=valid/accuracy")
    figures = evaluate(folder_of(result), ["~metrics.accuracy"])
    assert figures == {"valid/loss": measured(result)["valid/loss"]}


def test_a_result_in_python_will_do_for_a_run(result: experiments.Result) -> None:
    assert evaluate(result) == measured(result)


def test_the_best_weights_give_the_best_loss(tmp_path: Path) -> None:
    result = train(tmp_path, *SMALL, "epochs=6", "optim.lr=3.0", "loader.valid_shuffle=true")
    assert result.best_epoch < len(result.history) - 1, "the last epoch is the best one: this shows nothing"
    assert evaluate(folder_of(result), weights="best")["valid/loss"] == result.best_valid_loss
    assert evaluate(folder_of(result))["valid/loss"] == result.history[-1]["valid/loss"]


def test_the_training_rows_can_be_measured(result: experiments.Result) -> None:
    figures = evaluate(folder_of(result), split="train")
    assert list(figures) == ["train/loss", "train/accuracy"]
    assert figures["train/loss"] != measured(result)["valid/loss"]


def test_other_data_can_be_measured(result: experiments.Result) -> None:
    other = evaluate(folder_of(result), ["dataset.seed=1"])
    assert other["valid/accuracy"] < measured(result)["valid/accuracy"]


def arrays(path: Path, *, side: int = 28, classes: int = 10, test: int = 0, reals: bool = False) -> Path:
    """An .npz of random pictures."""
    generator = np.random.default_rng(0)

    def rows(size: int) -> tuple[np.ndarray, np.ndarray]:
        x = generator.integers(0, 256, (size, side, side)).astype(np.uint8)
        return x, generator.random(size, np.float32) if reals else np.arange(size) % classes

    x, y = rows(5 * classes)
    content: dict[str, Any] = {"x": x, "y": y}
    if test:
        content["x_test"], content["y_test"] = rows(test)
    np.savez(path, **content)
    return path


def test_test_rows_are_measured_where_there_are_some(result: experiments.Result, tmp_path: Path) -> None:
    path = arrays(tmp_path / "own.npz", test=20)
    figures = evaluate(folder_of(result), ["dataset=arrays", f"dataset.path={path}"], split="test")
    assert list(figures) == ["test/loss", "test/accuracy"]


def refused(result: experiments.Result, *overrides: str, **options: Any) -> str:
    with pytest.raises(experiments.ConfigError) as caught:
        evaluate(folder_of(result), overrides, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_split_that_is_not_there_is_told(result: experiments.Result) -> None:
    told = refused(result, split="test")
    assert told == "split: dataset synthetic has no test rows; available: train, valid"


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"side": 8}, "dataset: arrays has images of 1x8x8; the run's model was trained on 1x28x28"),
        ({"classes": 3}, "dataset: arrays has 3 classes; the run's model was trained for 10 classes (synthetic)"),
        ({"reals": True}, "dataset: arrays has 1 real targets; the run's model was trained for 10 classes (synthetic)"),
    ],
)
def test_a_dataset_that_does_not_fit_is_told(
    other: dict[str, Any], told: str, result: experiments.Result, tmp_path: Path
) -> None:
    path = arrays(tmp_path / "own.npz", **other)
    assert refused(result, "dataset=arrays", f"dataset.path={path}") == told


def test_a_model_for_any_size_is_measured_on_another_one(tmp_path: Path) -> None:
    result = train(tmp_path, *SYNTHETIC, *QUIET, "model=cnn_adaptive")
    path = arrays(tmp_path / "own.npz", side=16)
    figures = evaluate(folder_of(result), ["dataset=arrays", f"dataset.path={path}"])
    assert list(figures) == ["valid/loss", "valid/accuracy"]


def test_another_model_than_the_trained_one_is_told(result: experiments.Result) -> None:
    assert "do not fit this model" in refused(result, "model.width=9")


def test_best_weights_that_were_not_kept_are_told(tmp_path: Path) -> None:
    told = refused(train(tmp_path, *SMALL, "checkpoint.best=false"), weights="best")
    assert told.endswith("it has no best weights in checkpoints; checkpoint.best keeps them")


def test_an_unknown_dataset_is_told_with_the_nearest(result: experiments.Result) -> None:
    assert refused(result, "dataset=fashion").startswith("dataset=fashion: there is no such option; did you mean")


def command_says(*arguments: str) -> Ended:
    return forked(lambda: command.main(list(arguments)))


def test_the_command_prints_each_figure_in_full(result: experiments.Result) -> None:
    done = command_says(str(folder_of(result)))
    assert done.code == 0, done
    assert done.out == "".join(f"{name} {value!r}\n" for name, value in measured(result).items())


def test_options_may_stand_before_and_after_overrides(result: experiments.Result) -> None:
    done = command_says(str(folder_of(result)), "--split", "train", "dataset.seed=1", "--weights", "best")
    assert done.code == 0 and done.out.startswith("train/loss ")


def test_an_unknown_run_is_one_message(workplace: Path) -> None:
    done = command_says("outputs/none")
    ways = "its folder, its MLflow id (32 hexadecimal digits) or the word latest"
    told = f"error: outputs/none: no run; one is named by {ways}; there is none below outputs\n"
    assert (done.code, done.err) == (2, told)


@pytest.mark.slow
def test_the_command_works_as_it_is_typed(result: experiments.Result, cli: Any) -> None:
    done = cli(str(folder_of(result)), module="experiments.evaluate")
    assert (done.returncode, done.stdout.split()[0]) == (0, "valid/loss"), done.stderr
