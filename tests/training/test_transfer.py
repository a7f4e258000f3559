"""Transfer: what is taken of other weights, what is not trained, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import experiments
from experiments import api
from experiments.config.registry import register
from experiments.export_script.exporting import export
from experiments.tracking import record
from experiments.training import transfer, weights
from experiments.training.weights import State
from tests.support.scripts import exported, measured, run_script
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

QUICK = ["dataset=digits", "epochs=1", "device.threads=1", "figures=false", "tracking=none", "metrics=none"]


class Net(nn.Module):
    """A body with statistics of its own and with noise, and a head."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.body(x))
        return logits


@pytest.fixture
def net() -> None:
    if "transfer_net" not in register.model.names:
        register.model("transfer_net", input="flat")(transfer_net)


def transfer_net(data: experiments.DataSpec) -> nn.Module:
    """The net, for a dataset."""
    return Net(data.features, data.outputs)


def saved(folder: Path, content: object = None, name: str = "other.pt") -> str:
    """A file of weights for the net, with three outputs."""
    torch.manual_seed(1)
    torch.save(Net(64, 3).state_dict() if content is None else content, folder / name)
    return f"init_from={folder / name}"


def trained(*overrides: str) -> nn.Module:
    """The model that a run gives."""
    model = experiments.run([*QUICK, "model=transfer_net", *overrides]).model
    assert isinstance(model, nn.Module)
    return model


@pytest.mark.parametrize("select", [["init_only=[body]"], ["init_match=shapes"]])
def test_what_is_selected_and_frozen_stays_to_the_bit(net: None, workplace: Path, select: list[str]) -> None:
    start = saved(workplace)
    body = trained(start, *select, "freeze=[body]").get_submodule("body").state_dict()
    theirs = {name.removeprefix("body."): value for name, value in torch.load(workplace / "other.pt").items()}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in body.items())


def test_what_is_not_frozen_is_trained_and_has_moving_statistics(net: None, workplace: Path) -> None:
    model = trained(saved(workplace), "init_only=[body]", "freeze=[body.0]")
    theirs = torch.load(workplace / "other.pt")
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, theirs.get(name, value))}
    assert {f"body.1.{name}" for name in ("weight", "bias", "running_mean", "running_var")} <= moved
    assert not {"body.0.weight", "body.0.bias"} & moved


@pytest.mark.parametrize(
    ("wrap", "before"),
    [
        (lambda state: {"state_dict": state, "epoch": 3}, ""),
        (lambda state: {"model": {f"module.{name}": value for name, value in state.items()}}, "module."),
        (lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()}, "module._orig_mod."),
    ],
)
def test_a_checkpoint_of_other_tools_starts_the_same_training(
    net: None, workplace: Path, wrap: Callable[[State], object], before: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(2)
    state = Net(64, 10).state_dict()
    plain, wrapped = saved(workplace, state), saved(workplace, wrap(state), "wrapped.pth")
    caplog.set_level(logging.INFO)
    one, two = (experiments.run([*QUICK, "model=transfer_net", start]) for start in (plain, wrapped))
    assert one.history[0]["train/loss"] == two.history[0]["train/loss"]
    assert one.untrained == two.untrained
    assert (f"init_from: {before} is removed" in caplog.text) == bool(before)
    first, second = (record.read(run.folder).start.identity for run in (one, two) if run.folder)
    assert first == second  # what was taken is the same


def test_safetensors_are_read(net: None, workplace: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    state = Net(64, 10).state_dict()
    safetensors.save_file(state, workplace / "a.safetensors")
    read, _ = weights.read(workplace / "a.safetensors")
    assert weights.digest(read) == weights.digest(state)


def test_a_model_whose_own_names_begin_like_a_wrapper_s_keeps_them() -> None:
    assert transfer.prefix(["module.a", "module.b"], ["module.a", "module.b"]) == ""
    assert transfer.prefix(["module.a", "module.b"], ["a", "b"]) == "module."
    assert transfer.prefix(["module.a", "b"], ["a", "b"]) == ""


def test_what_was_taken_is_told_in_two_lines(net: None, workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    start = saved(workplace, {**Net(64, 3).state_dict(), "tail.weight": torch.ones(2)})
    trained(start, "init_match=shapes")
    told = [each.message for each in caplog.records if each.message.startswith("init_from: ")]
    assert told == [
        "init_from: 7 tensors taken; fresh: head.weight, head.bias",
        "init_from: 7 tensors taken; not taken: head.weight, head.bias, tail.weight",
    ]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["freeze=[bdy]"], "freeze: 'bdy' matches no parameter of transfer_net; did you mean 'body'"),
        (["freeze=[hed.weight]"], "freeze: .*did you mean 'head.weight'"),
        (["freeze=['*']"], "freeze: selects all parameters of transfer_net"),
        (["model=logistic_logits", "freeze=[bias]"], "freeze: needs an nn.Module"),
        (["freeze=[0.1]"], "freeze.0: 0.1 is not allowed"),
        (["init_only=[body]"], "init_only: .*set init_from"),
        (["init_match=shapes"], "init_match: .*set init_from"),
        (["START"], "init_from: the weights of .* do not fit .*init_match=shapes"),
        (["START", "init_only=[head]"], "init_from: .*with one shape: head.weight, head.bias; no tensor fits"),
        (["START", "init_only=[body, head.bias]"], "init_from: .*: head.bias; init_match=shapes leaves"),
        (["START", "init_only=[bdy]"], "init_only: 'bdy' matches no tensor in .*did you mean 'body'"),
        (["START", "model=mlp", "init_match=shapes"], "init_from: .*no tensor fits"),
        (["init_from=missing.pth"], "init_from: .*missing.pth.*No such file"),
        (["init_from=empty.pt"], "init_from: .*something else than tensors by name"),
        (["init_from=text.pt"], "init_from: .*cannot be read"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_run(
    net: None, workplace: Path, overrides: list[str], problem: str
) -> None:
    start = saved(workplace)
    torch.save({"epoch": 1}, workplace / "empty.pt")
    (workplace / "text.pt").write_text("weights")
    given = [start if each == "START" else each for each in overrides]
    with pytest.raises(experiments.ConfigError, match=problem):
        trained(*given)
    assert not list(workplace.rglob("journal.jsonl"))


def test_the_optimiser_does_not_get_frozen_parameters_and_the_rest_trains_as_by_hand(net: None) -> None:
    torch.manual_seed(0)
    model = Net(64, 10)
    transfer.freeze(model, ["body", "head.bias"], "net")
    assert [name for name, each in model.named_parameters() if each.requires_grad] == ["head.weight"]
    model.train()
    assert model.training and not any(module.training for module in model.body.modules())


def test_a_frozen_run_resumes_bit_for_bit(net: None, workplace: Path) -> None:
    given = ["model=transfer_net", "freeze=[body.0]", "optim=adam"]
    whole = experiments.run([*QUICK, *given, "epochs=2"])
    first = experiments.run([*QUICK, *given])
    assert first.folder is not None
    resumed = api.resume(first.folder, ["epochs=2"])
    assert [epoch["valid/loss"] for epoch in resumed.history] == [epoch["valid/loss"] for epoch in whole.history]


def test_the_loaded_model_of_a_frozen_run_can_be_trained(net: None, workplace: Path) -> None:
    result = experiments.run([*QUICK, "model=transfer_net", "freeze=[body]"])
    model = experiments.load(result).train()
    assert all(each.requires_grad for each in model.parameters())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("frozen", ["freeze=[body, head.bias]", "freeze=[body.0]"])
def test_the_script_of_a_frozen_run_prints_its_losses(net: None, workplace: Path, frozen: str) -> None:
    given = [*QUICK, "model=transfer_net", frozen]
    assert run_script(exported(given, workplace)) == measured(experiments.run(given))


@pytest.mark.parametrize("select", [["init_only=[body]"], ["init_match=shapes"], []])
def test_a_script_of_weights_from_a_file_or_of_a_part_is_refused(net: None, workplace: Path, select: list[str]) -> None:
    start = saved(workplace) if not select else f"init_from={experiments.run([*QUICK, 'model=transfer_net']).folder}"
    with pytest.raises(experiments.ConfigError, match="init_from: a script repeats the training that gives"):
        export([*QUICK, "model=transfer_net", start, *select])
