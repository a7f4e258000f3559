"""Options of Hydra's own groups that take the place of its plugins': the launchers' presets and the search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import MISSING

LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm", "ray")


@dataclass
class SearchConfig:
    """`hydra.sweeper` with `hydra/sweeper=optuna`."""

    _target_: str = "hydra_plugins.experiments_sweeper.search.CheckedSearch"
    _recursive_: bool = False  # the sampler is made when it is known that Optuna is there
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}])
    sampler: Any = MISSING
    direction: str = "minimize"  # of the best validation loss
    n_trials: int = 20
    n_jobs: int = 1  # trials chosen and launched together, for a launcher that runs jobs side by side
    params: dict[str, str] | None = None  # what is searched: a key and its choice(...), interval(...) or range(...)


# The samplers of Optuna that are seeded with the run's own seed, so that a search can go on as it was.
SAMPLERS = {
    "tpe": {"_target_": "optuna.samplers.TPESampler", "seed": "${seed}", "n_startup_trials": 10},
    "random": {"_target_": "optuna.samplers.RandomSampler", "seed": "${seed}"},
    "cmaes": {"_target_": "optuna.samplers.CmaEsSampler", "seed": "${seed}", "n_startup_trials": 1},
}


def store() -> None:
    """Put our options in the place of those of the same names that Hydra's plugins bring."""
    Plugins.instance()  # which finds the plugins, and these store their options
    options = ConfigStore.instance()
    for name in LAUNCHERS:  # else Hydra would take them for schemas of our presets of the same names
        options.repo.get("hydra", {}).get("launcher", {}).pop(f"{name}.yaml", None)
    options.store(group="hydra/sweeper", name="optuna", node=SearchConfig, provider="experiments")
    for name, sampler in SAMPLERS.items():
        options.store(group="hydra/sweeper/sampler", name=name, node=sampler, provider="experiments")
