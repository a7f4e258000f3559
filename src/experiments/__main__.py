"""`python -m experiments`: Hydra composes the configuration and starts the run."""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from experiments import cli
from experiments.config import compose, discovery


@hydra.main(config_path="pkg://experiments.conf", config_name="config", version_base="1.3")
def task(cfg: DictConfig) -> float:
    """Run one job; return the best validation loss, which a search minimises."""
    from experiments.api import run_job

    return run_job(cfg).best_valid_loss


def main() -> None:
    """Run the command line; exit codes: 0, 1 failed, 2 rejected, 130 interrupted, 143 terminated."""
    cli.guarded(compose_and_run, together=True)


def compose_and_run() -> None:
    """Have Hydra parse the command line and run its jobs."""
    discovery.register_with_hydra()
    sys.argv[1:] = compose.open_tags(sys.argv[1:])
    task()


if __name__ == "__main__":
    # Under its own name, so that other processes can unpickle the task function.
    from experiments.__main__ import main as named

    named()
