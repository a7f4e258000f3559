"""A sweep that cannot be made is refused in one line, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.commands import SMALL, command
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here

SWEEP = ("-m", *SMALL, "seed=0,1")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("sweep.limit=abc", "sweep.limit: 'abc' is not allowed: it should be a valid integer"),
        ("sweep.limit=null", "sweep.limit: None is not allowed: it should be a valid integer"),
        ("sweep.limit=-3", "sweep.limit: -3 is not allowed: it should be greater than or equal to 1"),
        ("sweep.preview=abc", "sweep.preview: 'abc' is not allowed: it should be a valid boolean"),
        ("sweep=null", "sweep: None is not allowed: it should be a valid dictionary"),
        ("~sweep", "sweep: a value is required"),
        ("sweep.limit=${nope}", "sweep.limit: its interpolation cannot be resolved (InterpolationKeyError)"),
        ("hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size: 0 is given; it should be a whole number of"),
        (
            "optim.lr=interval(0.1,1)",
            "optim.lr: interval(0.1,1) is given, which is not a list of values;",
        ),
    ],
)
def test_what_no_sweep_could_be_is_refused(given: str, told: str, workplace: Path) -> None:
    done = command(*SWEEP, given)
    assert (done.code, done.out) == (2, ""), done
    assert done.err.startswith(f"error: {told}") and done.err.count("\n") == 1, done
    assert list(workplace.iterdir()) == []


def test_what_hydras_own_sweeper_refuses_is_one_line_too(workplace: Path) -> None:
    done = command(*SWEEP, "hydra/sweeper=basic", "optim.lr=interval(0.1,1)")
    told = "error: configuration: BasicSweeper does not support sweep type : INTERVAL_SWEEP\n"
    assert (done.code, done.err) == (2, told)
