"""`hydra/sweeper=optuna`: a search by Optuna, which is an extra and imported when a search starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hydra_plugins.experiments_sweeper import CheckedSweeper

if TYPE_CHECKING:
    from experiments.sweeps.search import Search


class CheckedSearch(CheckedSweeper):
    """Trials that are chosen one after the other.

    Args:
        params: the search space, a key and its sweep each.
        settings: the others, which are read from the configuration.
    """

    def __init__(self, params: dict[str, str] | None = None, **settings: Any) -> None:  # noqa: ARG002
        super().__init__(max_batch_size=None, params=params)

    def _sweep(self) -> Search:
        from experiments.sweeps.search import Search

        return Search(self)
