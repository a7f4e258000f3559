"""A sweep inside Hydra: every job checked before the first one starts, run, and shown in a table however it went."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from experiments.config.check import check_sweep
from experiments.config.root import TrackingConfig
from experiments.errors import ConfigError, Fault, UserError
from experiments.parity.stage_sweep import judged
from experiments.runs import metadata, sweep_plan
from experiments.sweeps import jobs, launchers, monitor, search, summary
from experiments.sweeps.hooks import reject
from experiments.sweeps.jobs import ComposedJob, Configurations, composed, require_listed
from experiments.sweeps.preview import Preview
from experiments.tracking import client


class Sweep:
    """A grid of all combinations, rejected as a whole where one job could not run.

    Args:
        sweeper: Hydra's, with its configuration and its launcher.
    """

    known = True  # whether all jobs are known before the first

    def __init__(self, sweeper: BasicSweeper) -> None:
        assert sweeper.config is not None and sweeper.launcher is not None and sweeper.hydra_context is not None
        self.sweeper, self.config = sweeper, sweeper.config
        self.launcher, self.context = sweeper.launcher, sweeper.hydra_context

    def run(self, arguments: list[str]) -> Any:
        """Check all jobs, keep the plan, run them, and show the table; or only show what it would do.

        Raises:
            TrainingError: jobs failed; all others were run, unless the sweep was to stop.
        """
        sweep = Path(self.config.hydra.sweep.dir).resolve()
        arguments = launchers.with_job_settings(self.config, arguments)
        with contextlib.ExitStack() as owned:
            try:
                if OmegaConf.select(self.config, "sweep.preview"):  # not checked yet
                    return self._preview(sweep, arguments)
                tracking = self._begin(sweep, arguments)
                owned.enter_context(sweep_plan.held(sweep))
            except UserError as error:
                reject(error)
            if tracking.name == "mlflow":
                client.uploader(tracking, self.config.output_root).follow(sweep)
            elsewhere = not isinstance(self.launcher, BasicLauncher)
            # Finished while this process owns the sweep: else it could be taken for one that died.
            with summary.finishing(self.config, judged):
                watching = monitor.Watch(sweep, self.config.sweep.on_failure, elsewhere=elsewhere)
                with watching as watch, launchers.tolerate_failures(sweep, self.config.hydra.launcher):
                    returned = self._run(arguments)
                watch.raise_if_failed()
            return returned

    def _run(self, arguments: list[str]) -> Any:
        """Hand the jobs to the launcher, as Hydra's own does, but that a failure ends nothing by itself."""
        overrides, watching = self._parsed(arguments), monitor.watching
        assert watching is not None
        OmegaConf.save(self.config, Path(self.config.hydra.sweep.dir) / "multirun.yaml")
        returned, first = [], 0
        for batch in self.sweeper.split_arguments(overrides, self.sweeper.max_batch_size):
            if not watching.enough:
                returned.append(self.launcher.launch(batch, initial_job_idx=first))
                watching.take(returned[-1], first, batch)
            first += len(batch)
        return returned

    def _preview(self, sweep: Path, arguments: list[str]) -> None:
        """Check all jobs, and tell what each is and what it will take."""
        if not self.known:
            problem = "a search chooses its jobs as it goes, so there is nothing to show before"
            raise ConfigError(Fault("sweep.preview", problem))
        overrides = self._parsed(arguments)
        preview = Preview(sweep, self.config.output_root, _varied(overrides))
        for job in self._composed(self._jobs(overrides)):
            preview.add(job)
        sweep_plan.require_free(Path(self.config.hydra.sweep.dir), preview.names, again=self.config.sweep.resume)
        preview.show()

    def _begin(self, sweep: Path, arguments: list[str]) -> TrackingConfig:
        """Check the sweep as a whole and keep its plan; where its runs are tracked."""
        overrides, names, listed = self._parsed(arguments), list[str](), dict[str, dict[str, str]]()
        varied, kept = _varied(overrides), jobs.Configurations()
        launcher = self.launcher if self.known and isinstance(self.launcher, BasicLauncher) else None
        for job in self._composed(self._jobs(overrides), kept if launcher else None):
            tracking = job.config.root.tracking
            listed[job.name] = {key: job.given[key] for key in varied if key in job.given}
            names.append(job.name)
        sweep_plan.require_free(Path(self.config.hydra.sweep.dir), names, again=self.config.sweep.resume)
        if not self.config.sweep.resume:
            options = sweep_plan.options(self.config)
            plan = sweep_plan.SweepPlan(varied, arguments, options, listed if self.known else {}, metadata.place())
            sweep_plan.keep(sweep, plan)
        sweep_plan.begin(sweep, tracking)
        if launcher:
            loader = jobs.Recalling(self.context.config_loader, kept)
            launcher.hydra_context = replace(self.context, config_loader=loader)
        return tracking

    def _parsed(self, arguments: list[str]) -> list[Override]:
        """The sweep's overrides; refused where they make no job, or more than anybody means."""
        check_sweep(self.config)
        if self.sweeper.max_batch_size is not None and self.sweeper.max_batch_size < 1:
            given = f"{self.sweeper.max_batch_size} is given; it should be a whole number of 1 or more, or null"
            raise ConfigError(Fault("hydra.sweeper.max_batch_size", given))
        parser = OverridesParser.create(config_loader=self.context.config_loader)
        parsed = parser.parse_overrides([*self.sweeper._parse_config(), *arguments])
        # As Hydra has it: what the command line gives a key anew takes the place of what hydra.sweeper.params gave it.
        overrides = list({override.get_key_element(): override for override in parsed}.values())
        if self.known:
            require_listed(overrides)
        limit, jobs = self.config.sweep.limit, self._count(overrides)
        if jobs == 0:
            raise ConfigError(Fault("sweep", "what is swept over has no values, so there is no job"))
        if jobs > limit:
            raise ConfigError(Fault("sweep.limit", f"more than {limit} jobs; sweep.limit=N allows as many as N"))
        return overrides

    def _count(self, overrides: Sequence[Override]) -> int:
        """How many jobs there will be; counted no further than the limit, for a range may be longer than the memory."""
        values = [override.sweep_string_iterator() for override in overrides if override.is_sweep_override()]
        return math.prod(sum(1 for _ in islice(one, self.config.sweep.limit + 1)) for one in values)

    def _jobs(self, overrides: list[Override]) -> list[list[str]]:
        """The overrides of each job."""
        return [job for batch in self.sweeper.split_arguments(overrides, self.sweeper.max_batch_size) for job in batch]

    def _composed(self, jobs: Sequence[Sequence[str]], kept: Configurations | None = None) -> Iterator[ComposedJob]:
        """Each job, checked; at the end the sweep is refused where one of them could not run."""
        return composed(self.context.config_loader, self.config, jobs, kept)


class Search(Sweep):
    """Trials that Optuna's sweeper chooses; what it may choose is checked before the first one."""

    known = False

    def _run(self, arguments: list[str]) -> None:
        search.run(self.config, self.context, self.launcher, self._parsed(arguments))

    def _parsed(self, arguments: list[str]) -> list[Override]:
        """The fixed overrides and the search space; refused where there is none, or Optuna is not there."""
        search.require(self.config)
        overrides = super()._parsed(arguments)
        search.require_space(overrides)
        return overrides

    def _count(self, overrides: Sequence[Override]) -> int:  # noqa: ARG002  # as many trials, whatever is searched
        return int(self.config.hydra.sweeper.n_trials)

    def _jobs(self, overrides: list[Override]) -> list[list[str]]:
        """What is checked before the first trial: each value that a choice has, and both ends of each interval."""
        return search.corners(overrides)


def _varied(overrides: Sequence[Override]) -> list[str]:
    """The keys that the jobs differ in."""
    return [override.get_key_element().lstrip("+") for override in overrides if override.is_sweep_override()]
