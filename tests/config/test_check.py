"""Bad configurations: refused before any side effect, with words that say what, where and what was expected."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.config import options
from experiments.config.check import configured
from experiments.config.root import RootConfig
from experiments.errors import ConfigError
from experiments.runs import folder as folders
from experiments.runs import sweep_plan
from tests.support.places import ROOT

CONF = ROOT / "conf"
MODELS = (
    "autoencoder, cnn, cnn_adaptive, cnn_norm, cnn_sequential, logistic, logistic_logits, logistic_parameters, "
    "logistic_tensors, lstm, mlp, resnet_small, transformer_small, unet_small"
)


def check(*overrides: str) -> RootConfig:
    return configured(overrides).root


def message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        check(*overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model=mpl", f"model=mpl: there is no such option; did you mean 'mlp'? available: {MODELS}"),
        ("model.name=mpl", f"model.name: no model is called 'mpl'; did you mean 'mlp'? available: {MODELS}"),
        (
            "optim.lrr=1",
            "optim.lrr: unknown key; did you mean 'lr'? available: fused, groups, lr, momentum, name, weight_decay",
        ),
        ("+optim.lrr=1", "optim.lrr: unknown key; did you mean 'lr'? available: fused, lr, momentum, weight_decay"),
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
    assert message("epohcs=3").startswith("epohcs: unknown key; did you mean 'epochs'? available: accumulate, ")


def test_all_faults_are_told_together() -> None:
    text = message("optim.lr=0", "epochs=0", "model.name=nope")
    assert text.startswith("3 faults:\n  ")
    assert {line.split(":")[0].strip() for line in text.splitlines()[1:]} == {"epochs", "model.name", "optim.lr"}


def test_interpolations_in_a_circle_name_the_key() -> None:
    assert message("name=${language}", "language=${name}") == "name: circular interpolation"


def test_the_value_of_an_environment_variable_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "${nowhere.secret-1234}")
    assert "1234" not in message("name=${oc.decode:${oc.env:CANARY}}")


@pytest.mark.parametrize(
    "override",
    [
        "+model._target_=os.system",
        "+optim.inner.deep._target_=os.system",
        "+callbacks.x.list=[{_target_: os.system}]",
        "+loss._partial_=true",
        "+loss._args_=[1]",
        "+model.inner._recursive_=true",
        "+model._convert_=all",
        "+anything._target_=os.system",
    ],
)
def test_an_import_path_is_refused_at_any_depth(override: str) -> None:
    assert "configuration names registered components, never import paths" in message(override)


@pytest.mark.parametrize("argument", ["target", "loss_target", "target_", "my_target_"])
def test_an_argument_may_have_target_in_its_name(argument: str) -> None:
    assert message(f"+optim.{argument}=1").startswith(f"optim.{argument}: unknown key")


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
        ("ftp://host", "'ftp://host' is not the address of an MLflow store"),
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
    problem = f"{workplace / 'file'} is not a folder, so {workplace / 'file' / 'mlflow.db'} cannot be used"
    assert message("tracking.uri=sqlite:///file/mlflow.db") == f"tracking.uri: {problem}"


def test_an_output_folder_below_a_file_is_refused(workplace: Path) -> None:
    (workplace / "file").write_text("", encoding="utf-8")
    problem = f"{workplace / 'file'} is not a folder; everything a run leaves behind goes there"
    assert message("output_root=file/outputs") == f"output_root: {problem}"


def as_nobody(check: Callable[[], str]) -> str:
    """What a check says to a user who owns nothing, in a process of its own; root may write anywhere."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writer, check().encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as file:
        return file.read()


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that nobody may write to; not below the test's own, which nobody else may enter."""
    folder = Path(tempfile.mkdtemp())
    (folder / "mlflow.db").write_bytes(b"")
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written_to_is_refused_for_whatever_it_is_meant(read_only: Path) -> None:
    check()  # imports what a user who owns nothing may not read
    blocked = f"{read_only} cannot be written to"
    assert f"output_root: {blocked}; " in as_nobody(lambda: message(f"output_root={read_only}/out"))
    text = as_nobody(lambda: message("output_root=/tmp", f"tracking.uri=sqlite:///{read_only}/new.db"))
    assert text == f"tracking.uri: {blocked}, so {read_only}/new.db cannot be used"
    text = as_nobody(lambda: message("output_root=/tmp", f"tracking.uri=sqlite:///{read_only}/mlflow.db"))
    assert text == f"tracking.uri: {read_only}/mlflow.db cannot be written to"
    text = as_nobody(lambda: refusal(folders.require_free, read_only / "run"))
    assert text == f"hydra.run.dir: {blocked}; the run's folder would be {read_only}/run"
    text = as_nobody(lambda: refusal(sweep_plan.require_free, read_only / "sweep", []))
    assert text == f"hydra.sweep.dir: {blocked}; the sweep's folder would be {read_only}/sweep"


def refusal(function: Callable[..., None], *arguments: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        function(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("device=cuda",), "finds no CUDA card; use device=cpu, or device=auto for what is available"),
        (("device=mps",), "finds no Apple GPU; use device=cpu, or device=auto for what is available"),
        (("device=cpu", "device.index=1"), "device.index: 1 names a CUDA card, but the device is cpu"),
        (("device=cuda:7",), "to choose one card of several: device=cuda device.index=1"),
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
    assert text == "scheduler: cosine steers a torch optimiser; optim by_hand is not one"


def _options() -> list[str]:
    groups = [folder for folder in CONF.iterdir() if folder.is_dir() and folder.name not in ("hydra", "__pycache__")]
    return sorted(f"{group.name}={option.stem}" for group in groups for option in group.glob("*.yaml"))


# What an option needs beside it.
WITH = {
    "dataset=arrays": ("dataset.path=pictures.npz",),
    "dataset=hf": ("dataset.path=saved",),
    "dataset=image_folder": ("dataset.root=pets",),
    "dataset=table": ("dataset.path=houses.csv", "dataset.target=price"),
    "dataset=text": ("dataset.path=book.txt",),
    "loss=nll_by_hand": ("model=logistic_tensors",),
}


@pytest.mark.long
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
        "early_stopping": {"monitor": "valid/loss", "mode": None, "patience": 1, "min_delta": 0.0},
        "weight_images": {},
    }


def test_a_metric_can_be_dropped_from_the_command_line() -> None:
    assert check("~metrics.accuracy").metrics == {}


@pytest.mark.parametrize(
    ("files", "told"), [("", "files that EXPERIMENTS_COMPONENTS names"), ("a.py", "EXPERIMENTS_COMPONENTS=a.py")]
)
def test_an_unknown_option_that_is_near_no_other_tells_where_own_ones_come_from(
    files: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", files)
    assert str(options.missing("model", "wave_net", None)).endswith(f"; own ones come from {told}")
    assert "own ones" not in str(options.missing("model", "mpl", None))
    assert "own ones" not in str(options.missing("stage", "wave_net", None))
