"""Hydra's sweep syntax as the space of a search."""

from __future__ import annotations

from typing import Any

import pytest

optuna = pytest.importorskip("optuna")

from hydra.core.override_parser.overrides_parser import OverridesParser  # noqa: E402
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402

from experiments.errors import ConfigError  # noqa: E402
from experiments.sweeps.space import Space, short  # noqa: E402
from experiments.sweeps.trials import grid  # noqa: E402


def space(*given: str) -> Space:
    return Space.of(OverridesParser.create().parse_overrides(list(given)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("interval(1, 5)", FloatDistribution(1, 5)),
        ("int(interval(1, 5))", IntDistribution(1, 5)),
        ("tag(log, interval(0.1, 1))", FloatDistribution(0.1, 1, log=True)),
        ("tag(log, int(interval(8, 64)))", IntDistribution(8, 64, log=True)),
        ("range(1, 10, step=4)", IntDistribution(1, 9, step=4)),
        ("range(0, 1, 0.25)", FloatDistribution(0, 0.75, step=0.25)),
        ("choice(a, 2, 0.5)", CategoricalDistribution(["a", "2", "0.5"])),
        ("a,b", CategoricalDistribution(["a", "b"])),
    ],
)
def test_a_sweep_is_a_distribution(given: str, expected: Any) -> None:
    assert space(f"key={given}").searched == {"key": expected}


def test_plain_values_are_shared_by_all_trials() -> None:
    found = space("model=mlp", "optim.lr=interval(0.1,1)")
    assert found.overrides({"optim.lr": 0.5}) == ["model=mlp", "optim.lr=0.5"]


@pytest.mark.parametrize("given", ["interval(1, 0)", "tag(log, interval(0, 1))", "range(1, 1)"])
def test_values_that_cannot_be_searched_are_told_by_their_key(given: str) -> None:
    with pytest.raises(ConfigError, match=r"^key: .* cannot be searched: "):
        space(f"key={given}")


def test_each_choice_and_both_ends_are_tried_once() -> None:
    trials = space("a=choice(x,y,z)", "b=interval(0,1)").extremes()
    assert trials == [["a=x", "b=0.0"], ["a=y", "b=0.0"], ["a=z", "b=0.0"], ["a=x", "b=1.0"]]


def test_a_number_of_an_interval_has_four_digits_and_stays_inside() -> None:
    assert short(0.123456, FloatDistribution(0, 1)) == 0.1235
    assert short(0.99999, FloatDistribution(0, 0.99999)) == 0.99999
    assert short(7, IntDistribution(1, 9)) == 7


def test_a_grid_has_all_combinations() -> None:
    found = grid(space("a=choice(x,y)", "b=range(0,1,0.5)"))
    assert found == [{"a": a, "b": b} for a in "xy" for b in (0.0, 0.5)]
