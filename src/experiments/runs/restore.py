"""Resume a run: check that it is still the same training, and load its newest checkpoint."""

from __future__ import annotations

from pathlib import Path

from filelock import Timeout

from experiments.config.registry import register
from experiments.config.secrets import masked_deep
from experiments.errors import ConfigError, Fault
from experiments.runs import terminal
from experiments.runs.find import run_in
from experiments.runs.fingerprint import differences, without_length
from experiments.runs.preparation import Preparation
from experiments.tracking import journal, record
from experiments.training import weights
from experiments.training.result import Result
from experiments.training.runner import Runner

# A launcher may start a job again while the first still ends.
WAIT_SECONDS = 10


def reopen(folder: Path) -> journal.Journal:
    """Open the journal of the run in a folder, which this process then owns.

    Raises:
        ConfigError: another process owns it.
    """
    try:
        return journal.Journal(folder, reopen=True, wait_seconds=WAIT_SECONDS)
    except Timeout:
        problem = f"{record.read(folder).owner} has this run in use; a run has one process"
        raise ConfigError(Fault(terminal.relative(folder), problem)) from None


def restore(prepared: Preparation, runner: Runner, folder: Path) -> Result | None:
    """Load a run's newest state into its runner; return the result of a run that has nothing left to do.

    Raises:
        ConfigError: something that determines the result has changed since the run started.
        CheckpointError: no checkpoint can be used.
    """
    run = run_in(folder)
    before, now = run.start.identity, masked_deep(prepared.identity)
    different = differences(without_length(before), without_length(now))
    if different:
        listed = "\n  ".join(different)
        problem = (
            f"cannot resume: these settings changed since the run started:\n  {listed}\nStart a new run or revert them"
        )
        raise ConfigError(Fault(terminal.relative(folder), problem))
    scheduler = prepared.root.scheduler["name"]
    if before["epochs"] != now["epochs"] and not register.scheduler.get(scheduler).metadata.get("any_length"):
        problem = (
            f"scheduler {scheduler} spreads over all {before['epochs']} epochs, so it cannot train for another number"
        )
        raise ConfigError(Fault("epochs", problem))
    assert runner.checkpoints is not None
    runner.checkpoints.tidy()
    state = runner.checkpoints.newest()
    if state is not None:
        runner.load_state_dict(state)
        if (done := len(runner.history)) > prepared.root.epochs:
            raise ConfigError(Fault("epochs", f"{prepared.root.epochs} are asked for, {done} are done"))
    if not run.finished:
        return None
    if not runner.stopped and len(run.history) < prepared.root.epochs:
        return None
    weights.into(runner.model, weights.load(folder), str(folder))
    return Result(runner.model, runner.untrained, list(run.history), runner.stopped, folder)
