"""`hydra/sweeper=optuna`: Optuna's sweeper chooses each trial; what it may choose is checked before the first one."""

# No `from __future__ import annotations`: a dataclass would look them up in its module, and Hydra, where it finds the
# plugins of an installed wheel, runs a module before that has its place in sys.modules.
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from hydra_plugins.experiments_sweeper import CheckedSweeper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hydra.core.override_parser.types import Override


class CheckedSearch(CheckedSweeper):
    """The sweeper of the released plugin (an extra, imported when a search begins) inside a sweep of ours.

    Args:
        params: the search space, a key and its sweep each.
        settings: the others, which stand in the configuration.
    """

    known = False

    def __init__(self, params: dict[str, str] | None = None, **settings: Any) -> None:  # noqa: ARG002
        super().__init__(max_batch_size=None, params=params)

    def _run(self, arguments: list[str]) -> None:
        from experiments.sweeps import search

        assert self.config is not None and self.launcher is not None and self.hydra_context is not None
        search.run(self.config, self.hydra_context, self.launcher, self._parsed(arguments))

    def _parsed(self, arguments: list[str]) -> "list[Override]":
        """The fixed overrides and the search space; refused where there is none, or Optuna is not there."""
        from experiments.sweeps import search

        assert self.config is not None
        search.require(self.config)
        overrides = super()._parsed(arguments)
        search.require_space(overrides)
        return overrides

    def _count(self, overrides: "Sequence[Override]") -> int:  # noqa: ARG002  # as many trials, whatever is searched
        assert self.config is not None
        return int(self.config.hydra.sweeper.n_trials)

    def _jobs(self, overrides: "list[Override]") -> list[list[str]]:
        """What is checked before the first trial: each value that a choice has, and both ends of each interval."""
        from experiments.sweeps import search

        return search.corners(overrides)


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
    """Take the place of the released plugin's own options, whichever of the two Hydra has found first."""
    options = ConfigStore.instance()
    options.store(group="hydra/sweeper", name="optuna", node=SearchConfig, provider="experiments")
    for name, sampler in SAMPLERS.items():
        options.store(group="hydra/sweeper/sampler", name=name, node=sampler, provider="experiments")


store()
