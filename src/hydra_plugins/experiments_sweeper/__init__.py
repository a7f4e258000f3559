"""Hydra's basic sweeper, but every job is checked before the first one starts and before any folder is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from experiments.config.hydra_basic import BasicSweeper, BasicSweeperConf
from experiments.config.hydra_internals import ConfigStore

if TYPE_CHECKING:
    from experiments.sweeps.sweeper import Sweep


class CheckedSweeper(BasicSweeper):
    """Hydra's grid of all combinations, rejected as a whole where one job could not run."""

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep.

        Raises:
            TrainingError: jobs failed.
        """
        # Late: Hydra imports every plugin at each start, of other applications too.
        from experiments import live
        from experiments.config import secrets
        from experiments.tracking import client

        assert self.config is not None and self.launcher is not None
        secrets.learn(self.config)
        if not OmegaConf.select(self.config, "sweep.preview"):
            # Before torch is imported, so that the processes' imports overlap.
            client.warm_up(self.config)
            if hasattr(self.launcher, "start"):  # slots
                self.launcher.start(uses_cards=self.config.device.name != "cpu")
        try:
            with live.phase("loading"):
                sweep = self._sweep()
            return sweep.run(arguments)
        finally:
            if hasattr(self.launcher, "close"):  # where the sweep was refused
                self.launcher.close()

    def _sweep(self) -> Sweep:
        from experiments.sweeps.sweeper import Sweep

        return Sweep(self)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="experiments",
    node=BasicSweeperConf(_target_="hydra_plugins.experiments_sweeper.CheckedSweeper"),
    provider="experiments",
)
