"""Hydra's flags may stand anywhere; those that would replace what ships are refused."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from experiments.config.command_line import parsed
from experiments.errors import ConfigError


@pytest.mark.parametrize(
    "words", list(permutations([("model=mlp",), ("-m",), ("--config-dir", "."), ("optim.lr=0.1,0.2",)]))
)
def test_flags_may_stand_anywhere(words: tuple[tuple[str, ...], ...], workplace: Path) -> None:
    given, _ = parsed([word for each in words for word in each])
    assert (given.multirun, given.config_dir) == (True, ".")
    assert sorted(given.overrides) == ["model=mlp", "optim.lr=0.1,0.2"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--config-path", "x"], "--config-path: it would replace every option that ships; --config-dir"),
        (["model=mlp", "--config-name=mine"], "--config-name: a run resumes with its overrides"),
        (["--experimental-rerun", "x"], "--experimental-rerun: it would run code from a file; "),
        (["--epochs", "5"], "command line: unrecognized arguments: --epochs; settings are key=value (epochs=5)"),
        (["--cfg", "jobs"], "command line: argument --cfg/-c: invalid choice: 'jobs'"),
        (["--config-dir", "none"], "--config-dir: there is no folder none"),
        (["--config-dir", ".", "-cd", "."], "--config-dir: given twice; "),
    ],
)
def test_a_flag_that_cannot_be_used_is_one_line(words: list[str], told: str, workplace: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(words)
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)
