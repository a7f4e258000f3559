"""`python -m experiments.lr_find`: it prints and draws a range test, and leaves nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import lr_find
from experiments.config.check import configured
from experiments.config.registry import Component, register
from tests.support.forked import Ended, forked
from tests.support.places import ROOT

QUIET = ("device=cpu", "device.threads=1")
DIGITS = (*QUIET, "dataset=digits", "model=mlp", "model.dropout=0.2", "optim=adam")


def found(*arguments: str) -> Ended:
    return forked(lambda: lr_find.main([*arguments]))


def answer(*arguments: str) -> dict[str, Any]:
    done = found(*arguments, "--json")
    assert done.code == 0, done.err
    told: dict[str, Any] = json.loads(done.out)["answer"]
    return told


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_it_prints_ten_points_the_override_and_the_plot_and_writes_that_alone(workplace: Path) -> None:
    before = files(workplace)
    done = found(*DIGITS)
    head, _ruler, *rows, _, stopped, suggested, plot = done.out.splitlines()
    assert (head.split(), len(rows), done.code) == (["rate", "loss", "smoothed"], 10, 0)
    assert stopped.startswith("stopped after rate") and suggested.startswith("suggested: optim.lr=0.0")
    assert files(workplace) - before == {plot.removeprefix("plot ")}
    assert (workplace / plot.removeprefix("plot ")).read_bytes().startswith(b"\x89PNG")


def test_its_json_is_what_it_prints(workplace: Path) -> None:
    told, plain = answer(*DIGITS, "--plot", "a.png"), found(*DIGITS, "--plot", "a.png")
    test = told
    assert len(test["rates"]) == len(test["losses"]) == len(test["smoothed"]) < 100
    assert f"suggested: {told['overrides'][0]}\n" in plain.out
    assert float(told["overrides"][0].partition("=")[2]) == pytest.approx(test["suggested"], rel=0.05)
    assert told["plot"] == "a.png" and (workplace / "a.png").is_file()


def test_the_overrides_of_groups_multiply_each_rate_alike(workplace: Path) -> None:
    groups = "optim.groups={0.*: {lr: 0.0001}}"
    told = answer(*DIGITS, groups, "--to", "1")
    root = configured([*DIGITS, groups, *told["overrides"]]).root
    first = root.optim["groups"]["0.*"]["lr"]
    assert first == pytest.approx(told["suggested"], rel=0.05)
    assert root.optim["lr"] / first == pytest.approx(10, rel=0.05)


def test_a_rate_under_another_name_is_suggested_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(params: Any, *, pace: float = 0.25) -> Any:
        return torch.optim.SGD(params, lr=pace)

    own = Component("optimiser", "mine", mine)
    monkeypatch.setitem(register.optim._components, "mine", own)
    assert list(lr_find._overrides({"name": "mine", "groups": None, "pace": 0.25}, None, 0.25, 0.5)) == [
        "optim.pace=0.5"
    ]
    assert list(lr_find._overrides({"name": "mine", "groups": None, "pace": 0.3}, None, 0.25, 0.5)) == []


def test_what_is_left_out_is_said(workplace: Path) -> None:
    done = found(*DIGITS, "scheduler=one_cycle", "callbacks=ema", "--steps", "20")
    assert "left out of the test: scheduler=one_cycle, callbacks=ema\n" in done.out


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset=synthetic", "model=cnn_adaptive", "transforms=mixup"],
        ["dataset=digits", "model=resnet_small", "limit_batches=4", "accumulate=2", "max_grad_norm=1.0"],
        ["dataset=digits", "model=mlp", "optim=lbfgs", "optim.max_iter=2", "loader.batch_size=500"],
        ["dataset=digits", "model=my_net", "optim=by_hand", "loader=dataloader"],
    ],
)
def test_it_tests_what_trains(overrides: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(ROOT / "examples" / "my_net.py"))
    losses = answer(*QUIET, *overrides, "--steps", "15", "--from", "1e-5", "--to", "0.1")["losses"]
    assert len(losses) == 15 and len(set(losses)) > 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--from=-1"], "error: --from, --to: -1 and 10 are given; expected 0 < from < to\n"),
        (["--from", "1", "--to", "1"], "error: --from, --to: 1 and 1 are given; expected 0 < from < to\n"),
        (["--steps", "0"], "error: --steps: 0 is given; expected at least 10\n"),
        (["--plot", "."], "error: --plot .: it is a folder; name a file\n"),
        (["optim.momentun=1"], "error: optim.momentun: unknown key"),
    ],
)
def test_a_mistake_is_one_line_before_anything(arguments: list[str], told: str, workplace: Path) -> None:
    before = files(workplace)
    done = found(*QUIET, "dataset=digits", "model=mlp", *arguments)
    assert (done.code, done.out) == (2, "") and done.err.startswith(told) and done.err.count("\n") == 1
    assert files(workplace) == before


def test_a_step_of_ones_own_is_refused_by_name(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(ROOT / "tests" / "support" / "own_parts.py"))
    done = found(*DIGITS, "step=own_simclr")
    assert (done.code, done.err.count("\n")) == (2, 1) and done.err.startswith("error: step: own_simclr decides itself")
