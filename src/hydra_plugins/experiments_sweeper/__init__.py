"""Hydra's basic sweeper, but every job is checked before the first one starts and before any folder is made."""

from __future__ import annotations

import contextlib
import math
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import open_dict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hydra.core.override_parser.types import Override

    from experiments.config import TrackingConfig


class CheckedSweeper(BasicSweeper):
    """Hydra's own grid of all combinations, rejected as a whole where one job could not run."""

    def sweep(self, arguments: list[str]) -> Any:
        """Check all jobs, keep the plan, run them, and show the table however it went."""
        # Late, since Hydra imports every plugin at each start, for other applications too.
        from experiments import secrets
        from experiments.errors import TrainingError, UserError
        from experiments.sweeps import parent, summary
        from experiments.sweeps.hooks import reject
        from experiments.tracking import process

        assert self.config is not None and self.hydra_context is not None
        secrets.learn(self.config)
        process.warm_up(self.config)
        sweep = Path(self.config.hydra.sweep.dir).resolve()
        with contextlib.ExitStack() as owned:
            try:
                tracking = self._begin(sweep, arguments)
                owned.enter_context(parent.held(sweep))
            except UserError as error:
                reject(error)
            if tracking.name == "mlflow":
                process.uploader(tracking, self.config.output_root).follow(sweep)
            try:
                return self._run(arguments)
            except BaseException as error:
                # Hydra ends a sweep by its first failure or by Ctrl-C, and then calls no callback.
                summary.finish(self.config)
                if isinstance(error, UserError):  # one job could not begin; the command as a whole was not refused
                    raise TrainingError(str(error)) from error
                raise

    def _run(self, arguments: list[str]) -> Any:
        """Start the jobs."""
        return super().sweep(arguments)

    def _begin(self, sweep: Path, arguments: list[str]) -> TrackingConfig:
        """Check the sweep as a whole and keep its plan; where its runs are tracked."""
        from experiments.sweeps import parent

        assert self.config is not None
        overrides = self._parsed(arguments)
        jobs = self._jobs(overrides)
        tracking = self._check(jobs)
        if not self.config.sweep.resume:
            varied = [override.get_key_element().lstrip("+") for override in overrides if override.is_sweep_override()]
            parent.plan(sweep, varied, self._count(overrides), arguments, parent.options(self.config))
        parent.begin(sweep, tracking)
        return tracking

    def _parsed(self, arguments: list[str]) -> list[Override]:
        """The sweep's overrides; refused where they make no job, or more than anybody means."""
        from experiments.errors import ConfigError, Fault

        assert self.config is not None and self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        limit, jobs = self.config.sweep.limit, self._count(overrides)
        if jobs == 0:
            raise ConfigError(Fault("sweep", "what is swept over has no values, so there is no job"))
        if jobs > limit:
            raise ConfigError(Fault("sweep.limit", f"more than {limit} jobs; sweep.limit=N allows as many as N"))
        return overrides

    def _count(self, overrides: Sequence[Override]) -> int:
        """How many jobs there will be; counted no further than the limit, for a range may be longer than the memory."""
        assert self.config is not None
        values = [override.sweep_string_iterator() for override in overrides if override.is_sweep_override()]
        return math.prod(sum(1 for _ in islice(one, self.config.sweep.limit + 1)) for one in values)

    def _jobs(self, overrides: list[Override]) -> list[list[str]]:
        """The overrides of each job."""
        return [job for batch in self.split_arguments(overrides, self.max_batch_size) for job in batch]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Every job has been composed and checked already."""

    def _check(self, jobs: Sequence[Sequence[str]]) -> TrackingConfig:
        """Refuse the sweep where one of its jobs could not run; where its runs are tracked."""
        from hydra.errors import CompactHydraException
        from omegaconf.errors import OmegaConfBaseException

        from experiments import composing, config
        from experiments.errors import ConfigError, Fault
        from experiments.sweeps import parent

        assert self.config is not None and self.hydra_context is not None
        faults: dict[str, Fault] = {}
        folders: list[str] = []
        for number, job in enumerate(jobs):
            try:
                cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(job))
                composing.require_single(cfg.hydra)
                tracking = config.check(config.resolve(cfg)).tracking
                with open_dict(cfg):  # as the launcher will
                    cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
                folders.append(str(cfg.hydra.sweep.subdir))
            except ConfigError as error:
                faults |= {str(fault): fault for fault in error.faults}
            except (CompactHydraException, OmegaConfBaseException) as error:
                faults |= {str(fault): fault for fault in composing.in_words(error).faults}
        if faults:
            raise ConfigError(*faults.values())
        parent.require_free(Path(self.config.hydra.sweep.dir), folders, again=self.config.sweep.resume)
        return tracking


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="experiments",
    node=BasicSweeperConf(_target_="hydra_plugins.experiments_sweeper.CheckedSweeper"),
    provider="experiments",
)
