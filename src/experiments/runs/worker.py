"""A training in the processes after the first: they train their share and write nothing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments.config.device import pick
from experiments.config.root import RootConfig
from experiments.runs import preparation
from experiments.training import device, signals
from experiments.training.compile import in_words
from experiments.training.distributed import group as distributed
from experiments.training.distributed import step
from experiments.training.distributed.group import Group
from experiments.training.result import Result
from experiments.training.runner import Runner


def follow(root: RootConfig, overrides: Sequence[str]) -> Result:
    """Train together with the first process, which decides where the training starts.

    Raises:
        TrainingError: the training had to stop, here or elsewhere.
    """
    with device.settings_kept(), distributed.joined(partial(pick, root.device)) as group:
        assert group is not None
        prepared = preparation.prepare(root, overrides, group)
        runner = prepared.runner(Path())  # where the first one writes, this one never does
        state, done = group.from_first()
        if done is not None:
            history, stopped = done
            return Result(runner.model, {}, history, stopped)
        if state is not None:
            runner.load_state_dict(step.part_of(state, group.rank))
        with signals.put_off(), signals.workers_watched(group.asked), in_words(), signals.between_steps(group.asked):
            return runner.fit(root.epochs, pause_after=root.pause_after, stop_request=group.agreed)


def lead(group: Group, runner: Runner, done: Result | None) -> None:
    """Send the other processes where the training starts, or that it is done."""
    checkpoints = runner.checkpoints
    assert isinstance(checkpoints, step.JointCheckpoints)
    group.from_first((checkpoints.restored, None if done is None else (done.history, done.stopped)))
