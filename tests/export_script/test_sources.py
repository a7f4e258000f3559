"""Components of one's own in a script: what is written does what they do, and what cannot be written is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments.export_script.__main__ import main as script_command
from experiments.export_script.exporting import export
from tests.export_script.test_script import SMALL, same_losses
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

NET = """
import functools
from enum import Enum

import torch
from torch import nn
from torch.nn import functional as F

from experiments import register

{helper}

@register.model("{name}", input="flat")
class Net(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.lin = nn.Linear(data.features, data.outputs)

    def forward(self, xb):
        return {call}
"""
CHOOSING = """

class Act(Enum):
    RELU = "relu"
    GELU = "gelu"


@register.model("own_choosing_ACT", input="flat")
def choosing(data, *, act: Act):
    if act is Act.GELU:
        layer = nn.GELU()
    else:
        layer = nn.ReLU()
    return nn.Sequential(nn.Linear(data.features, 5), layer, nn.Linear(5, data.outputs))
"""
LOSS = """
@register.loss("own_{name}", targets="classes")
def {name}(pred, target):
    doubled = 2 * F.cross_entropy(pred, target)
    return doubled
"""
SCALED = """
def scaled(x):
    return x * {factor}
"""


@pytest.fixture
def write(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write files of components, each with a network and what it needs, for the runs to come."""

    def write(name: str, helper: str = "", call: str = "self.lin(xb)") -> list[str]:
        (workplace / f"{name}.py").write_text(NET.format(name=name, helper=helper, call=call))
        files = sorted(path.name for path in workplace.glob("own_*.py"))
        monkeypatch.setenv("EXPERIMENTS_COMPONENTS", ":".join(files))
        return [*SMALL, f"model={name}"]

    return write


@pytest.mark.parametrize("act", ["relu", "gelu"])
def test_an_argument_is_what_the_run_makes_of_it(act: str, write: Any, workplace: Path) -> None:
    choosing = write(f"own_enum_{act}", CHOOSING.replace("ACT", act))
    assert same_losses([*choosing, f"model=own_choosing_{act}", f"model.act={act}"], workplace)


@pytest.mark.parametrize("name", ["loss", "total", "xb"])
def test_a_loss_may_be_called_as_a_value_of_the_loop(name: str, write: Any, workplace: Path) -> None:
    assert same_losses([*write(f"own_with_{name}", LOSS.format(name=name)), f"loss=own_{name}"], workplace)


@pytest.mark.parametrize(
    ("name", "helper", "call"),
    [
        ("class", "Act = nn.ReLU", "Act()(self.lin(xb))"),
        ("function", f"{SCALED.format(factor=0.5)}\nhalf = scaled", "half(self.lin(xb))"),
        ("nothing", "SCALE = None", "self.lin(xb) * (SCALE or 2)"),
    ],
)
def test_what_a_module_calls_otherwise_is_found(name: str, helper: str, call: str, write: Any, workplace: Path) -> None:
    assert same_losses(write(f"own_called_{name}", helper, call), workplace)


REFUSED = [
    ("partial", "HELP = functools.partial(F.relu)", "HELP(self.lin(xb))", "HELP of .* is a partial, which a script"),
    ("instance", "HELP = nn.ReLU()", "HELP(self.lin(xb))", "HELP of .* is a ReLU, which a script cannot hold"),
    ("tensor", "HELP = torch.ones(1)", "self.lin(xb) * HELP", "HELP of .* is a tensor of the shape"),
    ("dict", "HELP = {'relu': nn.ReLU}", "HELP['relu']()(self.lin(xb))", "HELP of .* is a dict, which"),
    ("lambda", "HELP = lambda x: x", "HELP(self.lin(xb))", "a lambda in .* has no definition"),
    (
        "module",
        "from experiments.components import script_loaders",
        "self.lin(script_loaders.Rows(xb, xb).tensors[0])",
        "is a module,",
    ),
    ("reserved", "def order(x):\n    return x", "order(self.lin(xb))", "order of .*: a script has its own order"),
]


@pytest.mark.parametrize(("name", "helper", "call", "told"), REFUSED)
def test_what_a_script_cannot_hold_is_refused_in_a_line(
    name: str, helper: str, call: str, told: str, write: Any
) -> None:
    overrides = write(f"own_refused_{name}", helper, call)
    with pytest.raises(experiments.ConfigError, match=f"^export_script: [^\n]*{told}[^\n]*$"):
        export(overrides)


def test_what_nobody_foresaw_is_one_message_too(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def text(_script: Any) -> str:
        raise AssertionError("never\nseen")

    monkeypatch.setattr("experiments.export_script.script.Script.text", text)
    told = "^export_script: no script can be made of these components: AssertionError: never seen$"
    with pytest.raises(experiments.ConfigError, match=told):
        export(SMALL)


def test_what_own_components_print_is_not_in_the_script(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    printing = write("own_printing", call="(print('a batch'), self.lin(xb))[1]")
    script_command(printing)
    shown = capsys.readouterr()
    compile(shown.out, "plain.py", "exec")
    assert "a batch" in shown.err
