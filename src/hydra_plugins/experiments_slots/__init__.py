"""`hydra/launcher=slots`: the jobs of a multirun in warm worker processes, each of which takes one job after the other.

It needs nothing of this package but Hydra and loky, so that any Hydra application can use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from hydra_plugins.experiments_slots._workers import Workers


class SlotsLauncher(Launcher):
    """Runs jobs in slots: a worker process each, with its share of the cores and, if there are any, a card of its own.

    A worker that dies costs the job that it had, which is started again in a new one.

    Args:
        slots: jobs at once; "auto": as many as the cards hold, or one for each core where no card is used.
        cards: the cards to use, as in CUDA_VISIBLE_DEVICES; "auto": all that are visible; empty: none.
        per_card: jobs at once on each card.
        max_retries: how often a job whose worker died is started again.
        preload: modules that are imported once, for all workers.
    """

    def __init__(
        self,
        slots: int | str = "auto",
        cards: Sequence[Any] | str = "auto",
        per_card: int = 1,
        max_retries: int = 3,
        preload: Sequence[str] = (),
    ) -> None:
        self.slots, self.cards, self.per_card = slots, cards, per_card
        self.max_retries, self.preload = max_retries, list(preload)
        self.workers: Workers | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives a launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def start(self, *, uses_cards: bool = True) -> Workers:
        """Make the slots, unless they are there; their modules are imported while this process goes on."""
        from hydra_plugins.experiments_slots._workers import Workers, environments

        if self.workers is None:
            cards = self.cards if uses_cards or self.cards != "auto" else ()
            variables = environments(self.slots, cards, self.per_card)
            self.workers = Workers(variables, self.preload, self.max_retries)
        return self.workers

    def submit(self, overrides: Sequence[str], number: int) -> Future[JobReturn]:
        """Start a job as soon as a slot is free, and return its future."""
        return self.start().submit(self, overrides, number)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs, and return what they returned in their order."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        try:
            submitted = [self.submit(given, initial_job_idx + place) for place, given in enumerate(job_overrides)]
            return [future.result() for future in submitted]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers; one that has a job gets SIGTERM and ends when that has ended."""
        if self.workers is not None:
            self.workers.close()
            self.workers = None


# Not a dataclass: Hydra executes this file outside of `sys.modules`.
SETTINGS: dict[str, Any] = {
    "_target_": "hydra_plugins.experiments_slots.SlotsLauncher",
    "slots": "auto",
    "cards": "auto",
    "per_card": 1,
    "max_retries": 3,
    "preload": [],
}
ConfigStore.instance().store(group="hydra/launcher", name="slots", node=SETTINGS, provider="experiments")
