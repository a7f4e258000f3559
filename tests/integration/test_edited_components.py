"""An own component that was edited between two runs: words change nothing, a number does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.places import Cli

NET = '''
"""A module."""

from torch import nn

from experiments import register

WIDTH = 8


@register.model("edited", input="flat")
def edited(data):
    """A net."""
    return nn.Sequential(nn.Linear(data.features, WIDTH), nn.ReLU(), nn.Linear(WIDTH, data.outputs))
'''
IN_WORDS = NET.replace("A module.", "One module.").replace(
    '"""A net."""', '"""A net, told anew."""\n\n    # with a remark'
)
IN_NUMBERS = NET.replace("WIDTH = 8", "WIDTH = 9")
TINY = ("model=edited", "dataset=synthetic", "dataset.train=64", "dataset.valid=32", "tracking=none", "figures=false")


class Edited:
    """A folder with a component that was trained, and the command line there."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self.cli, self.folder = cli, folder
        self.write(NET)
        self.train("epochs=1", "hydra.run.dir=outputs/first")

    def write(self, text: str) -> None:
        (self.folder / "edited.py").write_text(text, encoding="utf-8")

    def train(self, *overrides: str) -> str:
        return self.call("experiments", *TINY, "device.threads=1", *overrides)

    def call(self, module: str, *arguments: str, code: int = 0) -> str:
        done = self.cli(*arguments, module=module, env={"EXPERIMENTS_COMPONENTS": "edited.py"})
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr


@pytest.fixture
def edited(cli: Cli, workplace: Path) -> Edited:
    return Edited(cli, workplace)


def test_a_run_resumes_where_only_words_changed(edited: Edited) -> None:
    edited.write(IN_WORDS)
    assert "epoch 1 " in edited.call("experiments.resume", "outputs/first", "epochs=2")


def test_a_run_is_refused_where_a_number_changed(edited: Edited) -> None:
    edited.write(IN_NUMBERS)
    assert "code of model.edited" in edited.call("experiments.resume", "outputs/first", "epochs=2", code=2)


@pytest.mark.slow
def test_a_finished_run_is_reused_where_only_words_changed(edited: Edited) -> None:
    edited.write(IN_WORDS)
    assert "outputs/first" in edited.train("epochs=1", "reuse=finished")


@pytest.mark.slow
def test_runs_are_one_group_where_only_words_changed(edited: Edited) -> None:
    edited.write(IN_WORDS)
    edited.train("epochs=1", "seed=1", "hydra.run.dir=outputs/second")
    assert "lowest mean valid/loss: all, " in edited.call("experiments.compare", "outputs/first", "outputs/second")


@pytest.mark.slow
def test_runs_are_two_groups_where_a_number_changed(edited: Edited) -> None:
    edited.write(IN_NUMBERS)
    edited.train("epochs=1", "seed=1", "hydra.run.dir=outputs/second")
    assert "model.edited" in edited.call("experiments.compare", "outputs/first", "outputs/second")
