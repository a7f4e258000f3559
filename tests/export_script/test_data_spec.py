"""A script's components get the data spec in every way that their source asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.export_script.exporting import export
from tests.export_script.test_script import SMALL, same_losses
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

FILE = """
import dataclasses
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

import experiments
from experiments import register


class Net(nn.Module):
    def __init__(self, {spec}, width=7):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(spec.features, width), nn.ReLU(), nn.Linear(width, spec.outputs))

    def forward(self, xb):
        return self.body(xb)


{model}
"""
FUNCTION = '@register.model("{name}", input="flat")\ndef made(data, *, width: int = 5):\n    {body}\n'
CLASS = '@register.model("{name}", input="flat")\nclass Made({base}):\n{body}\n'
INIT = "    def __init__(self, data, *, width: int = 5):\n        {body}\n"

# Each with the registered model.
HANDED = {
    "positionally": FUNCTION.format(name="handed", body="return Net(data, width)"),
    "by_keyword": FUNCTION.format(name="handed", body="return Net(width=width, spec=data)"),
    "to_the_base": CLASS.format(name="handed", base="Net", body=INIT.format(body="super().__init__(data, width)")),
    "by_inheritance": CLASS.format(name="handed", base="Net", body="    pass"),
    "to_the_base_by_name": CLASS.format(
        name="handed", base="Net", body=INIT.format(body="Net.__init__(self, data, width)")
    ),
    "in_a_list": FUNCTION.format(name="handed", body="return nn.Sequential(*[Net(each, width) for each in [data]])"),
    "under_another_name": FUNCTION.format(name="handed", body="other = data\n    return Net(other, width)"),
    "kept": CLASS.format(
        name="handed", base="Net", body=INIT.format(body="self.data = data; super().__init__(self.data, width)")
    ),
    "by_a_method": CLASS.format(
        name="handed",
        base="nn.Module",
        body=INIT.format(body="super().__init__(); self.net = self.make(data, width)")
        + "    def make(self, given, width):\n        return Net(given, width)\n"
        + "    def forward(self, xb):\n        return self.net(xb)",
    ),
    "beside_a_method_of_the_same_parameter": CLASS.format(
        name="handed",
        base="nn.Module",
        body=INIT.format(body="super().__init__(); self.lin = nn.Linear(data.features, data.outputs)")
        + "    def forward(self, data):\n        return self.lin(data).view(data.shape[0], -1)",
    ),
    "replaced": FUNCTION.format(
        name="handed",
        body="body = Net(dataclasses.replace(data, outputs=9), width)\n"
        "    return nn.Sequential(body, nn.ReLU(), nn.Linear(9, data.outputs))",
    ),
    "by_getattr": FUNCTION.format(name="handed", body='return nn.Linear(getattr(data, "features"), data.outputs)'),
    "in_text": FUNCTION.format(
        name="handed", body='assert f"{data.outputs}" == "10"\n    return nn.Linear(data.features, data.outputs)'
    ),
    "decorated": "@dataclass\nclass Sizes:\n    width: int = 2\n\n"
    + FUNCTION.format(name="handed", body="return Net(data, Sizes(width=width).width)"),
}


@pytest.mark.parametrize(
    ("way", "annotated"),
    [*((way, False) for way in HANDED), *((way, True) for way in ("positionally", "by_inheritance", "to_the_base"))],
)
def test_a_script_hands_the_data_spec_on(
    way: str, annotated: bool, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = "spec: experiments.DataSpec" if annotated else "spec"
    path = workplace / f"own_handed_{way}_{annotated}.py"
    path.write_text(FILE.format(spec=spec, model=HANDED[way]).replace('"handed"', f'"{path.stem}"'))
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", path.name)
    assert same_losses([*SMALL, "epochs=1", f"model={path.stem}"], workplace)


TRANSFORM = """
from experiments import register

def scale(spec):
    return spec.outputs / spec.features

@register.transform("own_scaled")
def own_scaled(xb, data, *, power: int = 2):
    return xb * scale(data) ** power
"""


def test_a_transform_may_hand_it_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "own_transform.py").write_text(TRANSFORM)
    monkeypatch.setenv("EXPERIMENTS_COMPONENTS", "own_transform.py")
    assert same_losses([*SMALL, "epochs=1", "transforms=[own_scaled,normalize]"], workplace)


def test_built_in_components_have_it_written_in(workplace: Path) -> None:
    assert "data_spec" not in export([*SMALL, "model=mlp", "transforms=normalize"]).text
