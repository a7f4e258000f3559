"""`python -m experiments`: Hydra composes, the run runs; one message for a user's mistake, no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import hydra
from omegaconf import DictConfig

from experiments import cli, ranks
from experiments.config import discovery
from experiments.errors import TrainingError, UserError

FULL_ERROR = "HYDRA_FULL_ERROR"


@hydra.main(config_path="pkg://experiments.conf", config_name="config", version_base="1.3")
def task(cfg: DictConfig) -> float:
    """One job: the best validation loss, which a search minimises."""
    from experiments.api import run_job

    return run_job(cfg).best_valid_loss


def main() -> None:
    """The command line; exit codes: 0, 1 failed, 2 rejected, 130 interrupted, 143 terminated."""
    guarded(compose_and_run, together=True)


def compose_and_run() -> None:
    """Let Hydra read the command line and run its jobs."""
    discovery.announce()
    task()


def guarded(action: Callable[[], None], *, together: bool = False) -> None:
    """Do it, and end the process with one message and its exit code where that fails.

    Args:
        action: what the command does.
        together: whether several processes, started by torchrun, can do it together.
    """
    from experiments.config import secrets

    cli.collect_rarely()
    secrets.mask_process()
    secrets.learn_arguments(sys.argv[1:])
    wanted = os.environ.get(FULL_ERROR) == "1"
    # Hydra then lets its exceptions through, to be worded here.
    os.environ[FULL_ERROR] = "1"
    try:
        if not together:
            ranks.require_one()
        action()
    except KeyboardInterrupt:
        if not ranks.follows():
            print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if wanted:
            raise
        sys.exit(_tell(error))


def _tell(error: Exception) -> int:
    """Print what a user should read of an error; the exit code."""
    from hydra.errors import HydraException

    from experiments.config.secrets import masked

    if isinstance(error, UserError):
        if ranks.speaks() and not (ranks.follows() and isinstance(error, TrainingError)):  # the first process tells it
            print(f"error: {masked(str(error))}", file=sys.stderr)
        return 1 if isinstance(error, TrainingError) else 2
    from experiments.config.compose import in_words, is_users

    if isinstance(error, HydraException) or is_users(error):
        if ranks.speaks():
            print(f"error: {masked(str(in_words(error)))}", file=sys.stderr)
        return 2
    import traceback

    print(masked("".join(traceback.format_exception(error))), file=sys.stderr)
    print(f"set {FULL_ERROR}=1 for Hydra's own frames as well", file=sys.stderr)
    return 1


if __name__ == "__main__":
    # Under its own name, so that other processes can find the task function.
    from experiments.__main__ import main as named

    named()
