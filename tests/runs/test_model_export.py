"""A trained model as a program of torch.export: the bits of the run's own evaluation, without the run's code."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import experiments
from experiments.config.registry import register
from experiments.data.splits import DataSpec
from experiments.errors import ConfigError
from experiments.runs import model_export
from experiments.tracking.models import Exported
from experiments.training import device as devices

# Weights that are stored channels-last; the bits are compared below.
pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor found in the group")

SMALL = ("dataset=synthetic", "dataset.train=64", "dataset.valid=32", "tracking=none", "figures=false", "epochs=1")
MODELS = [name for name in register.model.names if name.startswith(("logistic", "mlp", "cnn"))]


def trained(place: Path, *overrides: str) -> Path:
    folder = experiments.run([*SMALL, f"output_root={place}", "device=cpu", *overrides]).folder
    assert folder is not None
    return folder


def reloaded(exported: Exported) -> Any:
    """The program as it comes out of its file."""
    file = io.BytesIO()
    torch.export.save(exported.program, file)
    file.seek(0)
    return torch.export.load(file).module()


def images(count: int, *shape: int) -> Tensor:
    return torch.rand(count, *(shape or (1, 28, 28)), generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize(
    "name", [name if name == "cnn_adaptive" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_the_program_gives_the_bits_of_the_loaded_model_for_any_number_of_images(name: str, tmp_path: Path) -> None:
    given = [f"model={name}", *(["loss=nll_by_hand"] if name == "logistic_tensors" else [])]
    folder = trained(tmp_path, *given)
    program, model = reloaded(model_export.export(folder, "last")), experiments.load(folder)
    if isinstance(model, nn.Module) and name.startswith("cnn"):
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
    flat = register.model.get(name).metadata["input"] == "flat"
    for count in (1, 2, 7):
        xb = images(count)
        assert torch.equal(program(xb), model(xb.flatten(1) if flat else xb))


def test_transforms_of_evaluation_are_inside_and_those_of_training_are_not(tmp_path: Path) -> None:
    folder = trained(tmp_path, "model=mlp", "transforms=[normalize,random_shift]")
    xb = images(3)
    expected = experiments.load(folder)(((xb - 0.1307) / 0.3081).flatten(1))
    assert torch.equal(reloaded(model_export.export(folder, "last"))(xb), expected)


def test_the_runs_precision_is_inside(tmp_path: Path) -> None:
    folder = trained(tmp_path, "model=mlp", "device.precision=bf16")
    xb = images(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = experiments.load(folder)(xb.flatten(1))
    found = reloaded(model_export.export(folder, "last"))(xb)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected.float())


def test_dropout_and_batch_norm_are_those_of_evaluation(tmp_path: Path, component: Callable[..., str]) -> None:
    name = component(
        lambda data: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, data.outputs),
        )
    )  # fmt: skip
    folder = trained(tmp_path, f"model={name}")
    xb = images(5)
    assert torch.equal(reloaded(model_export.export(folder, "last"))(xb), experiments.load(folder)(xb))


def test_a_model_for_any_size_takes_images_of_other_sizes(tmp_path: Path) -> None:
    exported = model_export.export(trained(tmp_path, "model=cnn_adaptive"), "last")
    xb = images(2, 1, 40, 31)
    assert exported.shape == (1, -1, -1)
    assert torch.equal(reloaded(exported)(xb), exported.module(xb))


def test_a_model_for_one_size_declares_it(tmp_path: Path, component: Callable[..., str]) -> None:
    name = component(lambda data: nn.Sequential(nn.Flatten(), nn.Linear(data.features, data.outputs)))
    exported = model_export.export(trained(tmp_path, f"model={name}"), "last")
    assert exported.shape == (1, 28, 28)


def test_the_best_weights_are_those_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    folder = trained(tmp_path, "model=mlp", "epochs=4", "optim.lr=3")
    best, last = model_export.export(folder, "best"), model_export.export(folder, "last")
    losses = experiments.runs.find.run_in(folder).series("valid/loss")
    assert last.epoch == 3
    assert losses[best.epoch] == min(losses)
    assert (best.digest == last.digest) == (best.epoch == last.epoch)


class Branching(nn.Module):
    """Its path depends on a value."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.layer = nn.Linear(data.features, data.outputs)

    def forward(self, xb: Tensor) -> Tensor:
        out: Tensor = self.layer(xb.flatten(1))
        return out if out.sum() > 0 else -out


class Random(Branching):
    """It gives other outputs each time."""

    def forward(self, xb: Tensor) -> Tensor:
        out: Tensor = self.layer(xb.flatten(1))
        return out + torch.rand_like(out)


@pytest.mark.parametrize(("kind", "said"), [(Branching, "torch.where"), (Random, "random in evaluation")])
def test_a_model_that_cannot_be_exported_is_refused_in_one_line(
    kind: type[nn.Module], said: str, tmp_path: Path, component: Callable[..., str]
) -> None:
    name = component(kind)
    folder = trained(tmp_path, f"model={name}")
    with pytest.raises(ConfigError, match=said) as caught:
        model_export.export(folder, "last")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    folder = trained(tmp_path, "model=mlp")
    (folder / "weights.pt").unlink()
    with pytest.raises(ConfigError, match=r"no weights\.pt"):
        model_export.export(folder, "last")


@pytest.fixture
def component(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Register a model for one test."""

    def add(factory: Callable[[DataSpec], nn.Module]) -> str:
        def made(data: DataSpec) -> nn.Module:
            return factory(data)

        monkeypatch.setattr(register.model, "_components", dict(register.model._components))
        register.model("own_net")(made)
        return "own_net"

    return add


def test_importing_the_commands_module_leaves_the_decorator() -> None:
    code = (
        "import importlib, experiments\n"
        "found = importlib.import_module('experiments.register')\n"
        "import experiments.register\n"
        "from experiments.register import model\n"
        "assert found is experiments.register is experiments.config.registry.register\n"
        "experiments.register.model('my_net')(lambda data: None)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("values", [("tf32", "tf32", "tf32"), ("ieee", "ieee", "ieee"), ("none", "ieee", "tf32")])
def test_a_process_exports_however_its_float32_is_set(values: tuple[str, ...], tmp_path: Path) -> None:
    folder = trained(tmp_path, "model=mlp")
    expected = experiments.load(folder)(images(3).flatten(1))
    with devices.settings_kept():
        devices._set_fp32(values)
        assert torch.equal(reloaded(model_export.export(folder, "last"))(images(3)), expected)
        assert devices._fp32() == list(values)
