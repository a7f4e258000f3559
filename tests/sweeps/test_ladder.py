"""The rungs of a search: whatever the order in which trials are done, the same ones go on."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from experiments.sweeps.rungs import Ladder, Leg
from experiments.sweeps.trials import Reached, TrialRecord


def ladder(rungs: str, epochs: int, trials: int = 27, factor: int = 3, keep: int = 3) -> Ladder:
    return Ladder.of(SimpleNamespace(rungs=rungs, factor=factor, keep=keep, n_trials=trials), epochs)


def rank(trial: TrialRecord, epochs: int) -> tuple[float, int]:
    (value,) = trial.reached[epochs].values or ()
    return value, trial.number


def searched(steps: Ladder, failing: float, order: random.Random, processes: int) -> tuple[dict[int, int], int]:
    """How many epochs each trial came to, and how often a free process had nothing to do before the end."""
    luck = random.Random(0)
    values = [
        {epochs: luck.choice([0.1, 0.2, luck.random()]) for epochs in steps.epochs} for _ in range(steps.trials[0])
    ]
    fails = {(n, epochs) for n in range(steps.trials[0]) for epochs in steps.epochs if luck.random() < failing}
    trials, tried, running, idle = [TrialRecord(n, {}) for n in range(steps.trials[0])], set[Leg](), list[Leg](), 0
    while True:
        ready = [Leg(trial, rung.epochs) for rung in steps.rungs(trials, tried, rank) for trial in rung.left]
        for leg in ready:
            if leg not in running and len(running) < processes:
                running.append(leg)
        if not running:
            break
        idle += len(running) < processes
        leg = running.pop(order.randrange(len(running)))
        number, epochs = leg.trial.number, leg.epochs
        tried.add(leg)
        leg.trial.reached[epochs] = Reached(
            None if (number, epochs) in fails else [values[number][epochs]], str(number)
        )
    return {trial.number: max(trial.reached) for trial in trials}, idle


def in_batches(steps: Ladder, failing: float) -> dict[int, int]:
    """The same by waiting for all of a rung, with the whole list sorted each time."""
    luck = random.Random(0)
    values = [
        {epochs: luck.choice([0.1, 0.2, luck.random()]) for epochs in steps.epochs} for _ in range(steps.trials[0])
    ]
    fails = {(n, epochs) for n in range(steps.trials[0]) for epochs in steps.epochs if luck.random() < failing}
    alive, found = list(range(steps.trials[0])), dict[int, int]()
    for epochs, kept in zip(steps.epochs, [*steps.trials[1:], 0], strict=True):
        found |= dict.fromkeys(alive, epochs)
        well = [number for number in alive if (number, epochs) not in fails]
        alive = sorted(well, key=lambda number: (values[number][epochs], number))[:kept]
    return found


@pytest.mark.parametrize("failing", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(
    "steps", [ladder("halving", 9), ladder("halving", 8, 20, 2), ladder("one_epoch", 5), ladder("full", 4)]
)
def test_the_same_trials_go_on_whatever_the_order(steps: Ladder, failing: float) -> None:
    for seed in range(30):
        order = random.Random(seed)
        assert searched(steps, failing, order, order.choice([1, 2, 5, 50]))[0] == in_batches(steps, failing)


def test_two_processes_wait_at_the_end_alone() -> None:
    """Of 27 and 9 trials the certain ones keep the second process busy; of three, one of two is waited for."""
    for seed in range(30):
        assert searched(ladder("halving", 9), 0.0, random.Random(seed), 2)[1] <= 2


@pytest.mark.parametrize(
    ("steps", "epochs", "trials"),
    [
        (ladder("halving", 9), [1, 3, 9], [27, 9, 3]),
        (ladder("halving", 10), [1, 3, 9, 10], [27, 9, 3, 1]),
        (ladder("halving", 1), [1], [27]),
        (ladder("halving", 4, 2, 2), [1, 2, 4], [2, 1, 1]),
        (ladder("one_epoch", 9), [1, 9], [27, 3]),
        (ladder("full", 9), [9], [27]),
    ],
)
def test_rungs_are_powers_of_the_factor_up_to_the_whole_training(
    steps: Ladder, epochs: list[int], trials: list[int]
) -> None:
    assert (steps.epochs, steps.trials) == (epochs, trials)
