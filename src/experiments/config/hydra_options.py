"""Options of Hydra's own groups that replace those of its plugins: the launchers' presets and the search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from experiments.config.hydra_internals import ConfigStore, forget_option, load_plugins

LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm", "ray")


@dataclass
class SearchConfig:
    """`hydra.sweeper` with `hydra/sweeper=optuna`."""

    _target_: str = "hydra_plugins.experiments_sweeper.search.CheckedSearch"
    _recursive_: bool = False  # the search builds the sampler, after it is checked
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}])
    sampler: Any = MISSING
    direction: str = "minimize"  # of the best validation loss
    n_trials: int = 20
    n_jobs: int = 1  # trials chosen and launched together, for a launcher that runs jobs side by side
    params: dict[str, str] | None = None  # the search space: a key and its choice(...), interval(...) or range(...)


# Optuna's samplers, seeded with the run's seed, so that a search can be resumed exactly.
SAMPLERS = {
    "tpe": {"_target_": "optuna.samplers.TPESampler", "seed": "${seed}", "n_startup_trials": 10},
    "random": {"_target_": "optuna.samplers.RandomSampler", "seed": "${seed}"},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "seed": "${seed}", "n_startup_trials": 1},
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
