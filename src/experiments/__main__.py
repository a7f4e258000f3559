"""`python -m experiments`: Hydra composes the configuration and starts the run."""

from __future__ import annotations

import contextlib
import io
import sys

from omegaconf import DictConfig

from experiments import cli, live
from experiments.config import command_line, discovery
from experiments.config.described import described
from experiments.config.hydra_internals import run_main


def task(cfg: DictConfig) -> float:
    """Run one job; return the best validation loss, which a search minimises."""
    with live.phase("loading"):
        from experiments.api import run_job

    return run_job(cfg).best_valid_loss


def main() -> None:
    """Run the command line; exit codes: 0, 1 failed, 2 rejected, 130 interrupted, 143 terminated."""
    cli.guarded(compose_and_run, together=True, json="run" if "--json" in sys.argv[1:] else None)


def compose_and_run() -> None:
    """Have Hydra parse the command line and run its jobs."""
    given, parser = command_line.parsed(sys.argv[1:])
    if given.again is not None:
        from experiments.runs import again

        given.overrides = again.overrides(given.again, given.overrides, sweep=given.multirun)
    discovery.register_with_hydra()
    shown = io.StringIO()
    try:
        with contextlib.redirect_stdout(shown) if given.help else contextlib.nullcontext():
            run_main(task, given, parser)
    finally:
        sys.stdout.write(described(shown.getvalue()))


if __name__ == "__main__":
    # Under its own name, so that other processes can unpickle the task function.
    from experiments.__main__ import main as named

    named()
