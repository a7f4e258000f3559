"""`hydra/sweeper=optuna`: Optuna's sweeper chooses each trial; what it may choose is checked before the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

    def _parsed(self, arguments: list[str]) -> list[Override]:
        """The fixed overrides and the search space; refused where there is none, or Optuna is not there."""
        from experiments.sweeps import search

        assert self.config is not None
        search.require(self.config)
        overrides = super()._parsed(arguments)
        search.require_space(overrides)
        return overrides

    def _count(self, overrides: Sequence[Override]) -> int:  # noqa: ARG002  # as many trials, whatever is searched
        assert self.config is not None
        return int(self.config.hydra.sweeper.n_trials)

    def _jobs(self, overrides: list[Override]) -> list[list[str]]:
        """What is checked before the first trial: each value that a choice has, and both ends of each interval."""
        from experiments.sweeps import search

        return search.corners(overrides)
