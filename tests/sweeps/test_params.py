"""A key that `hydra.sweeper.params` gives and the command line gives anew: the last one counts, and counts alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import raw_journal
from tests.support.commands import SMALL, command
from tests.support.training import one_thread  # noqa: F401  # a fixture of every test here
from tests.sweeps.test_search import needs_optuna

SWEEP = ("-m", "--config-dir=own", "experiment=params", *SMALL, "epochs=1", "hydra.sweep.dir=sweep")
SEARCH = (*SWEEP, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2")


def by_file(key: str, values: str) -> None:
    """Write an experiment's file, in the folder one works in, with this under `hydra.sweeper.params`."""
    file = Path("own", "experiment", "params.yaml")
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\n" + json.dumps({"hydra": {"sweeper": {"params": {key: values}}}}))


def name(sweep: Path) -> str:
    return str(raw_journal.read(sweep)[0]["name"])


def test_a_key_given_anew_is_swept_over_once(workplace: Path) -> None:
    by_file("optim.lr", "0.1,0.2")
    done = command(*SWEEP, "optim.lr=0.01,0.02")
    assert (done.code, name(workplace / "sweep")) == (0, "sweep over optim.lr"), done


def test_a_key_fixed_anew_is_swept_over_no_more(workplace: Path) -> None:
    by_file("optim.lr", "0.1,0.2")
    done = command(*SWEEP, "optim.lr=0.3", "seed=0,1")
    assert (done.code, name(workplace / "sweep")) == (0, "sweep over seed"), done


def test_only_the_values_given_last_are_counted(workplace: Path) -> None:
    by_file("seed", "range(0,600)")
    done = command(*SWEEP, "seed=0,1", "sweep.preview=true")
    assert done.code == 0 and "2 jobs: 2 new" in done.out, done


@needs_optuna
def test_a_search_whose_every_key_is_fixed_anew_is_refused(workplace: Path) -> None:
    by_file("optim.lr", "interval(0.01,0.1)")
    done = command(*SEARCH, "optim.lr=0.1")
    assert done.code == 2 and done.err.startswith("error: hydra.sweeper.params: there is nothing to search"), done


@needs_optuna
@pytest.mark.parametrize("first", ["0.5", "interval(0.5,0.6)"], ids=["fixed", "searched elsewhere"])
def test_what_is_searched_anew_is_searched_there(first: str, workplace: Path) -> None:
    by_file("optim.lr", first)
    done = command(*SEARCH, "optim.lr=interval(0.01,0.1)")
    assert (done.code, name(workplace / "sweep")) == (0, "sweep over optim.lr"), done
    rates = [float(raw_journal.read(workplace / "sweep" / job)[0]["params"]["optim.lr"]) for job in "01"]
    assert len(set(rates)) == 2 and all(0.01 <= rate <= 0.1 for rate in rates)
