"""What one script cannot hold of a run is refused, and what it leaves out is told: nothing differs without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

import experiments
from experiments.export_script.exporting import export
from experiments.training import weights
from tests.export_script.test_script import QUIET, SMALL, same_losses
from tests.support.scripts import exported, measured, run_script
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

# A training that ends after its second epoch, whatever it comes to.
STOPS = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=100"]

OWN = '''\
"""What does more than a plain loop does."""
import random

import numpy as np
import torch
from torch import nn

from experiments import Callback, register


class Items(torch.utils.data.Dataset):
    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.full((4, 4), index / self.size), index % 3


@register.dataset("limits_items")
def items():
    return {"train": Items(20), "valid": Items(12), "classes": 3}


@register.callback("limits_callback")
class Halving(Callback):
    def on_epoch_end(self, runner, epoch, figures):
        runner.optimizer.param_groups[0]["lr"] /= 2


@register.transform("limits_in_place")
def in_place(xb, data):
    return xb.mul_(0.5)


@register.model("limits_in_place_net", input="flat")
class InPlaceNet(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.lin = nn.Linear(data.features, data.outputs)

    def forward(self, xb):
        return self.lin(xb.mul_(0.5))


@register.transform("limits_torch", training_only=True)
def torch_noise(xb, data):
    return xb + torch.rand(len(xb), 1)


@register.transform("limits_evaluated")
def evaluated_noise(xb, data):
    return xb + torch.rand(len(xb), 1)


@register.transform("limits_numpy", training_only=True)
def numpy_noise(xb, data):
    return xb + np.random.rand()


@register.transform("limits_random", training_only=True)
def random_noise(xb, data):
    return xb + random.random()
'''


@pytest.fixture(scope="module")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own_limits.py"
    path.write_text(OWN)
    return path


@pytest.fixture
def own_parts(own_file: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(own_file))


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


def test_weights_that_have_changed_since_are_told(workplace: Path) -> None:
    first = experiments.run([*SMALL, "model=mlp"]).folder
    second = experiments.run([*SMALL, "model=mlp", f"init_from={first}"]).folder
    assert first is not None and export([str(second)]).notes == []
    weights.save(first, {name: tensor + 1 for name, tensor in weights.load(first).items()})
    (note,) = export([str(second)]).notes
    assert note.startswith("Since that run this has changed, so its losses may be others: content of init_from: ")


def test_trainings_with_schedulers_of_one_kind_go_into_one_script(workplace: Path) -> None:
    first = experiments.run([*SMALL, "model=mlp", "scheduler=one_cycle"])
    overrides = [*SMALL, "model=mlp", f"init_from={first.folder}", "scheduler=cosine"]
    losses = measured(first) + measured(experiments.run(overrides))
    assert run_script(exported(overrides, workplace)) == losses


@pytest.mark.usefixtures("own_parts")
def test_a_callback_of_ones_own_is_told_to_be_left_out() -> None:
    (note,) = export([*SMALL, "callbacks=[weight_images,limits_callback]"]).notes
    assert note.startswith("Without callbacks.limits_callback: what that does to a training is missing,")


@pytest.mark.usefixtures("own_parts")
@pytest.mark.parametrize(("loader", "told"), [("dataloader", True), ("wrapped_dataloader", True), ("in_memory", False)])
def test_a_dataset_that_is_asked_anew_each_epoch_is_told(loader: str, told: bool) -> None:
    found = export([*QUIET, "dataset=limits_items", f"loader={loader}"])
    assert any("Each item of the dataset is read once" in note for note in found.notes) is told


@pytest.mark.usefixtures("own_parts")
@pytest.mark.parametrize(
    ("part", "loader"),
    [
        *(("transforms=limits_in_place", loader) for loader in ("in_memory", "slices", "tensor_dataset", "dataloader")),
        ("model=limits_in_place_net", "slices"),
    ],
)
def test_what_changes_a_batch_in_place_leaves_the_rows_as_they_are(part: str, loader: str, workplace: Path) -> None:
    assert same_losses([*SMALL, part, f"loader={loader}", "loader.shuffle=false"], workplace)


@pytest.mark.usefixtures("own_parts")
@pytest.mark.parametrize(
    ("transform", "told"),
    [("limits_torch", False), ("limits_evaluated", True), ("limits_numpy", True), ("limits_random", True)],
)
def test_noise_that_a_script_has_not_is_told(transform: str, told: bool, workplace: Path) -> None:
    overrides = [*SMALL, f"transforms={transform}"]
    assert any("draws noise in evaluation or from numpy" in note for note in export(overrides).notes) is told
    assert same_losses(overrides, workplace) is not told
