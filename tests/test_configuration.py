"""Bad configurations: refused before any side effect, with words that say what, where and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import composing, config
from experiments.errors import ConfigError

CONF = Path(__file__).parents[1] / "conf"
MODELS = "cnn, cnn_adaptive, cnn_sequential, logistic, logistic_logits, logistic_parameters, logistic_tensors, mlp"


def check(*overrides: str) -> config.RootConfig:
    return config.check(config.resolve(composing.compose(overrides)))


def message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(*overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model=mpl", f"model=mpl: there is no such option; did you mean 'mlp'? there is: {MODELS}"),
        ("model.name=mpl", f"model.name: no model is called 'mpl'; did you mean 'mlp'? there is: {MODELS}"),
        ("optim.lrr=1", "optim.lrr: unknown key; did you mean 'lr'? there is: fused, lr, momentum, name, weight_decay"),
        ("+optim.lrr=1", "optim.lrr: unknown key; did you mean 'lr'? there is: fused, lr, momentum, weight_decay"),
        ("epochs=abc", "epochs: 'abc' is not allowed: it should be a valid integer"),
        ("epochs=1.5", "epochs: 1.5 is not allowed: it should be a valid integer"),
        ("epochs=true", "epochs: True is not allowed: it should be a valid integer"),
        ("epochs=0", "epochs: 0 is not allowed: it should be greater than or equal to 1"),
        ("epochs=-1", "epochs: -1 is not allowed: it should be greater than or equal to 1"),
        ("seed=-1", "seed: -1 is not allowed: it should be greater than or equal to 0"),
        ("seed=4294967296", "seed: 4294967296 is not allowed: it should be less than or equal to 4294967295"),
        ("seeds.init=-1", "seeds.init: -1 is not allowed: it should be greater than or equal to 0"),
        ("optim.lr=0", "optim.lr: 0 is not allowed: it should be greater than 0"),
        ("optim.lr=-1", "optim.lr: -1 is not allowed: it should be greater than 0"),
        ("optim.lr=nan", "optim.lr: nan is not allowed: it should be a finite number"),
        ("optim.lr=inf", "optim.lr: inf is not allowed: it should be a finite number"),
        ("optim.lr=true", "optim.lr: True is not allowed: it should be a valid number"),
        ("optim.lr='0.1'", "optim.lr: '0.1' is not allowed: it should be a valid number"),
        ("loader.batch_size=0", "loader.batch_size: 0 is not allowed: it should be greater than or equal to 1"),
        ("loader.batch_size=-64", "loader.batch_size: -64 is not allowed: it should be greater than or equal to 1"),
        ("limit_batches=0", "limit_batches: 0 is not allowed: it should be greater than or equal to 1"),
        ("max_grad_norm=0", "max_grad_norm: 0 is not allowed: it should be greater than 0"),
        ("evaluation.mean=rows", "evaluation.mean: 'rows' is not allowed: it should be 'samples' or 'batches'"),
        ("language=de", "language: 'de' is not allowed: it should be 'en' or 'uz'"),
        ("dataset=arrays", "dataset.path: a value is required: dataset.path=..."),
        ("device.name=junk", "device.name: 'junk' is not allowed: it should be 'auto', 'cpu', 'cuda' or 'mps'"),
        ("device.threads=0", "device.threads: 0 is not allowed: it should be greater than or equal to 1"),
        (
            "tracking.wait_seconds=-1",
            "tracking.wait_seconds: -1 is not allowed: it should be greater than or equal to 0",
        ),
        ("name=${oc.env:SURELY_NOT_SET}", "name: the environment variable SURELY_NOT_SET is not set"),
        ("name=${nowhere}", "name: its interpolation cannot be resolved (InterpolationKeyError)"),
        (
            "loss=nll_by_hand",
            "loss: nll_by_hand takes log-probabilities, model logistic returns logits; loss=cross_entropy fits",
        ),
    ],
)
def test_a_bad_value_is_told_with_its_key_and_what_was_expected(override: str, expected: str) -> None:
    assert message(override) == expected


def test_workers_cannot_be_negative() -> None:
    expected = "loader.num_workers: -1 is not allowed: it should be greater than or equal to 0"
    assert message("loader=dataloader", "loader.num_workers=-1") == expected


def test_an_unknown_root_key_is_told_with_the_nearest() -> None:
    assert message("epohcs=3").startswith("epohcs: unknown key; did you mean 'epochs'? there is: callbacks, ")


def test_all_faults_are_told_together() -> None:
    text = message("optim.lr=0", "epochs=0", "model.name=nope")
    assert text.startswith("3 faults:\n  ")
    assert {line.split(":")[0].strip() for line in text.splitlines()[1:]} == {"epochs", "model.name", "optim.lr"}


def test_interpolations_in_a_circle_name_the_key() -> None:
    assert message("name=${language}", "language=${name}") == "name: its interpolation leads in a circle"


def test_the_value_of_an_environment_variable_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "${nowhere.secret-1234}")
    assert "1234" not in message("name=${oc.decode:${oc.env:CANARY}}")


@pytest.mark.parametrize(
    "override",
    [
        "+model._target_=os.system",
        "+dataset.target=os.system",
        "+optim.inner.deep_target=os.system",
        "+callbacks.x.list=[{_target_: os.system}]",
        "+loss._partial_=true",
        "+anything._target_=os.system",
    ],
)
def test_an_import_path_is_refused_at_any_depth(override: str) -> None:
    assert "configuration names registered components, never import paths" in message(override)


def test_an_import_path_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "imported"
    (tmp_path / "payload.py").write_text(f"open({str(marker)!r}, 'w')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    message("+model._target_=payload.run")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("./mlruns", "'./mlruns' is a plain folder"),
        ("file:///tmp/mlruns", "'file:///tmp/mlruns' is a plain folder"),
        ("ftp://host", "'ftp://host' is no address of an MLflow store"),
        ("http://", "'http://' names no host"),
        ("sqlite:///", "names no file"),
    ],
)
def test_a_store_that_cannot_be_is_refused_with_an_example(uri: str, reason: str) -> None:
    text = message(f"tracking.uri='{uri}'")
    assert text.startswith("tracking.uri: ") and reason in text
    assert "sqlite:///mlflow.db" in text


def test_a_store_below_a_file_is_refused(workplace: Path) -> None:
    (workplace / "file").write_text("", encoding="utf-8")
    assert "file is a file, so" in message("tracking.uri=sqlite:///file/mlflow.db")


def test_an_output_folder_below_a_file_is_refused(workplace: Path) -> None:
    (workplace / "file").write_text("", encoding="utf-8")
    assert message("output_root=file/outputs") == "output_root: file is a file; runs are kept in a folder"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("device=cuda",), "finds no CUDA card; device=cpu computes here, device=auto picks what is there"),
        (("device=mps",), "finds no Apple GPU; device=cpu computes here, device=auto picks what is there"),
        (("device=cpu", "device.index=1"), "device.index: 1 names a CUDA card, but the device is cpu"),
        (("device=cuda:7",), "one card of several is chosen with device=cuda device.index=1"),
    ],
)
def test_a_device_that_is_not_there_is_never_replaced(
    overrides: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert expected in message(*overrides)


def test_by_hand_has_no_scheduler() -> None:
    text = message("optim=by_hand", "scheduler=cosine")
    assert text == "scheduler: cosine steers an optimiser of torch; optim by_hand is none"


def _options() -> list[str]:
    groups = [folder for folder in CONF.iterdir() if folder.is_dir() and folder.name not in ("hydra", "__pycache__")]
    return sorted(f"{group.name}={option.stem}" for group in groups for option in group.glob("*.yaml"))


# What an option needs beside it.
WITH = {
    "dataset=arrays": ("dataset.path=pictures.npz",),
    "loss=nll_by_hand": ("model=logistic_tensors",),
}


@pytest.mark.parametrize("option", _options())
def test_every_option_of_every_group_composes_and_passes_the_check(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    check(option, *WITH.get(option, ()))


def test_several_callbacks_can_be_chosen_at_once() -> None:
    root = check("callbacks=[early_stopping,weight_images]", "callbacks.early_stopping.patience=1")
    assert root.callbacks == {
        "early_stopping": {"monitor": "valid/loss", "patience": 1, "min_delta": 0.0},
        "weight_images": {},
    }


def test_a_metric_can_be_dropped_from_the_command_line() -> None:
    assert check("~metrics.accuracy").metrics == {}
