"""A sweep inside Hydra: every job is checked before the first one starts; a table is shown however the sweep ends."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments import answer, live
from experiments.config import latest
from experiments.config.check import Checked, check_sweep
from experiments.config.hydra_basic import BasicLauncher, BasicSweeper, parsed_overrides
from experiments.config.hydra_internals import Override, callbacks
from experiments.config.root import TrackingConfig
from experiments.errors import ConfigError, Fault, UserError
from experiments.parity.stage_sweep import judged
from experiments.runs import place, sweep_plan
from experiments.sweeps import jobs, launchers, queued, summary, sweep_answer
from experiments.sweeps.hooks import Hooks, reject
from experiments.sweeps.monitor import Watch
from experiments.sweeps.preview import Preview
from experiments.tracking import client
from experiments.training import signals


class Sweep:
    """A grid of all combinations, rejected as a whole where one job could not run."""

    known = True  # whether all jobs are known before the first
    word = "job"

    def __init__(self, sweeper: BasicSweeper) -> None:
        assert sweeper.config is not None and sweeper.launcher is not None and sweeper.hydra_context is not None
        self.sweeper, self.config = sweeper, sweeper.config
        self.launcher: Any = sweeper.launcher
        self.context = sweeper.hydra_context
        self.loader = jobs.Recalling(self.context.config_loader)
        self.jobs = 0  # how many

    def run(self, arguments: list[str]) -> Any:
        """Check all jobs, keep the plan, run the jobs and show the table; or only show what it would do.

        Raises:
            TrainingError: jobs failed.
        """
        sweep = Path(self.config.hydra.sweep.dir).resolve()
        arguments = launchers.with_job_settings(self.config, arguments)
        with contextlib.ExitStack() as owned:
            try:
                if OmegaConf.select(self.config, "sweep.preview"):  # not checked yet
                    return self._preview(sweep, arguments)
                detach = queued.detaches(self.config, self.launcher, known=self.known)
                tracking = self._begin(sweep, arguments)
                owned.enter_context(sweep_plan.held(sweep))
            except UserError as error:
                reject(error)
            if tracking.name == "mlflow":
                client.uploader(tracking, self.config.output_root).follow(sweep)
            owned.enter_context(signals.raised())
            if (sweep / queued.FILE).is_file():
                self.launcher = queued.Collecting(sweep, self.launcher)
            # Finished while this process owns the sweep: else it could look like one that died.
            with summary.finishing(self.config, judged, left=detach):
                tolerant = launchers.tolerate_failures(sweep, self.config.hydra.launcher)
                with self._watch(sweep) as watch, tolerant, queued.left(detach) as ids:
                    try:
                        returned = self._run(arguments, watch)
                    finally:
                        launchers.close(self.launcher)
                if not detach:
                    watch.raise_if_failed()
            if detach:
                queued.leave(self.config, sweep, ids)
            return returned

    def _watch(self, sweep: Path) -> Watch:
        """Return the watch over the failures, and set it in our callback."""
        elsewhere = not (isinstance(self.launcher, BasicLauncher) or hasattr(self.launcher, "together"))
        policy = self.config.sweep.on_failure
        watch = Watch(sweep, policy, elsewhere=elsewhere, jobs=self.jobs, word=self.word)
        for callback in callbacks(self.context):
            if isinstance(callback, Hooks):
                callback.watch = watch
        return watch

    def _run(self, arguments: list[str], watch: Watch) -> Any:
        """Launch the jobs as Hydra's sweeper does, but continue after a failure."""
        overrides = self._parsed(arguments)
        OmegaConf.save(self.config, Path(self.config.hydra.sweep.dir) / "multirun.yaml")
        returned, first = [], 0
        for batch in self.sweeper.split_arguments(overrides, self.sweeper.max_batch_size):
            if not watch.enough:
                returned.append(self.launcher.launch(batch, initial_job_idx=first))
                watch.take(returned[-1], range(first, first + len(batch)), batch)
            first += len(batch)
        return returned

    def _preview(self, sweep: Path, arguments: list[str]) -> None:
        """Check all jobs, and show the state and the cost of each."""
        if not self.known:
            problem = "a search chooses its jobs as it goes, so there is nothing to show before"
            raise ConfigError(Fault("sweep.preview", problem))
        overrides = self._parsed(arguments)
        preview = Preview(sweep, self.config.output_root, _varied(overrides))
        for job in self._composed(overrides):
            preview.add(job)
        sweep_plan.require_free(Path(self.config.hydra.sweep.dir), preview.names, again=self.config.sweep.resume)
        preview.show()

    def _begin(self, sweep: Path, arguments: list[str]) -> TrackingConfig:
        """Check the sweep as a whole and keep its plan; return where its runs are tracked."""
        overrides, names, listed = self._parsed(arguments), list[str](), dict[str, dict[str, str]]()
        varied = _varied(overrides)
        composes = isinstance(self.launcher, BasicLauncher) or any(
            hasattr(self.launcher, name) for name in ("submit", "together")
        )
        launcher = self.launcher if self.known and composes else None
        for job in self._composed(overrides, keep=launcher is not None):
            self._require_job(job.config)
            tracking = job.config.root.tracking
            listed[job.name] = {key: job.given[key] for key in varied if key in job.given}
            names.append(job.name)
        sweep_plan.require_free(Path(self.config.hydra.sweep.dir), names, again=self.config.sweep.resume)
        if not self.config.sweep.resume:
            options = sweep_plan.options(self.config)
            plan = sweep_plan.SweepPlan(varied, arguments, options, listed if self.known else {}, place.current())
            sweep_plan.keep(sweep, plan)
        sweep_plan.begin(sweep, tracking)
        latest.mark(Path(self.config.output_root), sweep)
        answer.give(partial(sweep_answer.of_sweep, sweep))
        if launcher:
            launcher.hydra_context = replace(self.context, config_loader=self.loader)
        return tracking

    def _parsed(self, arguments: list[str]) -> list[Override]:
        """Return the sweep's overrides.

        Raises:
            ConfigError: they make no job, or more than `sweep.limit`.
        """
        check_sweep(self.config)
        if self.sweeper.max_batch_size is not None and self.sweeper.max_batch_size < 1:
            problem = f"{self.sweeper.max_batch_size} is given; it should be a whole number of 1 or more, or null"
            raise ConfigError(Fault("hydra.sweeper.max_batch_size", problem))
        # The last override of a key counts, so that the command line replaces hydra.sweeper.params.
        parsed = parsed_overrides(self.sweeper, arguments)
        overrides = list({override.get_key_element(): override for override in parsed}.values())
        if self.known:
            jobs.require_listed(overrides)
        limit, count = self.config.sweep.limit, self._count(overrides)
        if count == 0:
            raise ConfigError(Fault("sweep", "the swept keys have no values, so there is no job"))
        if count > limit:
            raise ConfigError(Fault("sweep.limit", f"more than {limit} jobs; sweep.limit=N allows as many as N"))
        self.jobs = count
        return overrides

    def _require_job(self, config: Checked) -> None:
        """Check more of a job than a run would."""

    def _count(self, overrides: Sequence[Override]) -> int:
        """Count the jobs, each key's values no further than the limit: a range may be longer than the memory."""
        values = [override.sweep_string_iterator() for override in overrides if override.is_sweep_override()]
        return math.prod(sum(1 for _ in islice(one, self.config.sweep.limit + 1)) for one in values)

    def _jobs(self, overrides: list[Override]) -> list[list[str]]:
        """Return the overrides of each job."""
        return [job for batch in self.sweeper.split_arguments(overrides, None) for job in batch]

    def _composed(self, overrides: list[Override], *, keep: bool = False) -> Iterator[jobs.ComposedJob]:
        given = self._jobs(overrides)
        composed = jobs.composed(self.loader, self.config, given, keep=keep)
        return live.track(composed, f"checking {len(given)} jobs", len(given))


def _varied(overrides: Sequence[Override]) -> list[str]:
    """Return the keys that the jobs differ in."""
    return [override.get_key_element().lstrip("+") for override in overrides if override.is_sweep_override()]
