"""Components of one's own in a script: what is written does what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .test_export_script import SMALL, same_losses
from .training import one_thread  # noqa: F401  # a fixture of every test here

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
