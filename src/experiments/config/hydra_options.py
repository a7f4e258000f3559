"""Options of Hydra's own groups that replace those of its plugins: the launchers' presets and the search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from experiments.config.hydra_internals import ConfigStore, forget_option, load_plugins

LAUNCHERS = ("batched", "slots", "joblib", "submitit_local", "submitit_slurm", "ray")


@dataclass
class SearchConfig:
    """`hydra.sweeper` with `hydra/sweeper=optuna`."""

    _target_: str = "hydra_plugins.experiments_sweeper.search.CheckedSearch"
    _recursive_: bool = False  # the search builds the sampler, after it is checked
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}])
    sampler: Any = MISSING
    objectives: list[str] = field(default_factory=lambda: ["best/valid_loss"])  # metrics of a run
    direction: Any = "minimize"  # or maximize; of each objective, or one for all
    n_trials: int = 20  # how many runs
    n_jobs: Any = None  # trials at once, each chosen without the results of the others; null: what suits the launcher
    seed: Any = "${seed}"  # of the sampler
    rungs: str = "full"  # halving: train 1, 3, 9, ... epochs, keep the best third; one_epoch: keep the best few; full
    factor: int = 3  # of halving
    keep: int = 3  # trials, with one_epoch
    params: dict[str, str] | None = None  # the search space: a key and its choice(...), interval(...) or range(...)


# Optuna's samplers and their arguments.
SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {"name": "tpe", "n_startup_trials": 10},
    "gp": {"name": "gp"},
    "random": {"name": "random"},
    "qmc": {"name": "qmc"},
    "grid": {"name": "grid"},
    "cmaes": {"name": "cmaes", "n_startup_trials": 1},
}


def store() -> None:
    """Replace the options of Hydra's plugins by ours of the same names."""
    load_plugins()
    options = ConfigStore.instance()
    for name in LAUNCHERS:
        forget_option("hydra/launcher", name)
    options.store(group="hydra/sweeper", name="optuna", node=SearchConfig, provider="experiments")
    for name, sampler in SAMPLERS.items():
        options.store(group="hydra/sweeper/sampler", name=name, node=sampler, provider="experiments")
