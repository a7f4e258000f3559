"""Definitions of one name in one script: the same source is one definition, another one gets another name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.export_script.exporting import export
from tests.export_script.test_script import SMALL, same_losses
from tests.export_script.test_sources import SCALED, write  # noqa: F401  # a fixture
from tests.support.scripts import exported, measured, run_script
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

COMMON = [*SMALL, "model=mlp", "device.threads=1"]
OWN = '''
import torch
from experiments import register

RATE = 2.0


def scaled(x):
    return x * RATE


class Signed:
    """Steps by the gradient's sign; a class with a helper, whose settings are written in."""

    def __init__(self, params, lr, power):
        self.params, self.lr = list(params), lr
        self.power = power

    def step(self):
        with torch.no_grad():
            for p in self.params:
                p -= scaled(self.lr * p.grad.sign() * p.grad.abs() ** self.power)

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@register.optim("names_class")
class Mine(Signed):
    def __init__(self, params, *, lr: float = 0.01, power: float = 1.0):
        super().__init__(params, lr, power)
        self.power = power


@register.optim("names_function")
def chosen(params, *, lr: float = 0.01, power: float = 1.0):
    made = Signed(params, lr, power)
    made.power = power
    return made
'''
PAIRS = {
    "one_cycle": (["scheduler=one_cycle", "scheduler.warmup=0.4"], ["scheduler=one_cycle"]),
    "one_cycle, equal": (["scheduler=one_cycle"], ["scheduler=one_cycle"]),
    "one_cycle of other epochs": (["scheduler=one_cycle", "epochs=3"], ["scheduler=one_cycle"]),
    "cosine": (["scheduler=cosine", "scheduler.final=0.001"], ["scheduler=cosine"]),
    "step": (["scheduler=step", "scheduler.factor=0.5"], ["scheduler=step"]),
    "plateau": (["scheduler=plateau", "scheduler.patience=0"], ["scheduler=plateau", "scheduler.patience=1"]),
    "sgd": (["optim=sgd_momentum"], ["optim=sgd_momentum", "optim.momentum=0.5"]),
    "adam and sgd": (["optim=adam"], ["optim=sgd", "scheduler=constant"]),
    "adamw": (["optim=adamw", "optim.weight_decay=0.1"], ["optim=adamw", "optim.groups=no_decay"]),
    "by_hand": (["optim=by_hand"], ["optim=by_hand", "optim.lr=0.02"]),
    "an own class": (["optim=names_class"], ["optim=names_class", "optim.power=0.5"]),
    "an own function": (["optim=names_function"], ["optim=names_function", "optim.power=0.5"]),
    "all": (
        ["loss=weighted_cross_entropy", "scheduler=one_cycle", "optim=adam", "scheduler.warmup=0.4"],
        ["loss=weighted_cross_entropy", "scheduler=one_cycle", "optim=adam", "optim.betas=[0.5,0.9]"],
    ),
}


@pytest.fixture(scope="module")
def own_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own_names.py"
    path.write_text(OWN)
    return path


@pytest.fixture
def own(own_file: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", str(own_file))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("pair", PAIRS)
def test_two_trainings_of_one_script_print_both_runs_losses_to_the_last_bit(pair: str, workplace: Path) -> None:
    before, now = PAIRS[pair]
    first = experiments.run([*COMMON, *before])
    overrides = [*COMMON, *now, f"init_from={first.folder}"]
    losses = measured(first) + measured(experiments.run(overrides))
    assert run_script(exported(overrides, workplace)) == losses


def two(name: str, helper: str, other: str, write: Any, use: str = "scaled({})") -> list[str]:  # noqa: F811
    """A model and a loss of two modules, each with a helper of this name."""
    loss = f'@register.loss("own_loss_{name}", targets="classes")\ndef lost(pred, target):\n'
    loss += f"    pred = {use.format('pred')}\n    return F.cross_entropy(pred, target)\n"
    write(f"own_b_{name}", f"{other}\n{loss}")
    return [*write(f"own_a_{name}", helper, use.format("self.lin(xb)")), f"loss=own_loss_{name}"]


HALF, TWICE = SCALED.format(factor=0.5), SCALED.format(factor=2)
NESTED = "FACTOR = {}\n\ndef inner(x):\n    return x * FACTOR\n\ndef scaled(x):\n    return inner(x) + FACTOR\n"
MUTUAL = "def scaled(x, n=2):\n    return other(x, n) if n else x * {}\n"
MUTUAL += "\ndef other(x, n):\n    return scaled(x, n - 1)\n"
ITSELF = "def scaled(x, n=2):\n    return scaled(x, n - 1) if n else x * {}\n"
DIFFERENT = {
    "number": (HALF, TWICE),
    "nested": (NESTED.format(0.5), NESTED.format(2)),
    "mutual": (MUTUAL.format(0.5), MUTUAL.format(2)),
    "itself": (ITSELF.format(0.5), ITSELF.format(2)),
    "imported": ("from math import prod as scaled", "from math import fsum as scaled"),
    "a class": ("class scaled(nn.Hardtanh):\n    pass\n", "class scaled(nn.Softsign):\n    pass\n"),
}
USES = {"a class": "scaled()({})", "imported": "{} * scaled([2.0, 3.0])"}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_different_helpers_of_one_name_get_two_names(kind: str, write: Any, workplace: Path) -> None:  # noqa: F811
    overrides = two(f"diff_{kind.replace(' ', '_')}", *DIFFERENT[kind], write, USES.get(kind, "scaled({})"))
    assert same_losses(overrides, workplace)
    assert re.search(r"\bscaled_2\b", export(overrides).text)


@pytest.mark.parametrize("kind", DIFFERENT)
def test_the_same_helper_of_two_modules_is_one(kind: str, write: Any, workplace: Path) -> None:  # noqa: F811
    helper = DIFFERENT[kind][0]
    overrides = two(f"same_{kind.replace(' ', '_')}", helper, helper, write, USES.get(kind, "scaled({})"))
    assert same_losses(overrides, workplace)
    assert ("_2" in export(overrides).text) == (kind == "mutual")  # which is no harm


def test_a_constant_of_two_values_gets_two_names(write: Any, workplace: Path) -> None:  # noqa: F811
    overrides = two("value", "scaled = 0.5", "scaled = 2", write, "scaled * {}")
    assert same_losses(overrides, workplace)


def test_a_name_inside_a_string_is_refused_where_it_would_be_another(write: Any) -> None:  # noqa: F811
    use = "{0} * len(f'{{scaled}}')"
    overrides = two("string", "scaled = 0.5", "scaled = 2", write, use)
    with pytest.raises(experiments.ConfigError, match="scaled, which another definition .* is in a string; rename it"):
        export(overrides)
