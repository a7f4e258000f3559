"""A search inside a sweep: Optuna chooses the settings of each trial by the results of the earlier ones.

The study is in memory. What was chosen is kept in the sweep's folder before a trial starts, so that a search that
was interrupted chooses the same again, has its finished trials answer at once, and resumes exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from experiments.config import secrets
from experiments.config.hydra_internals import (
    IntervalSweep,
    JobReturn,
    JobStatus,
    Override,
    RangeSweep,
    ValueType,
    outcome,
)
from experiments.errors import ConfigError, Fault, TrainingError
from experiments.sweeps.monitor import Stopped, Watch
from experiments.sweeps.optuna_internals import OptunaSweeperImpl, create_params_from_overrides, samplers
from experiments.sweeps.sampling import Remembering
from experiments.sweeps.sweeper import Sweep

CHOSEN = "trials.jsonl"
RESULTS = "optimization_results.yaml"  # the plugin's own
DIRECTIONS = ("minimize", "maximize")


class Search(Sweep):
    """Trials that Optuna's sweeper chooses; the search space is checked before the first one."""

    known = False
    word = "trial"

    def _run(self, arguments: list[str], watch: Watch) -> None:
        """Run the trials, one after the other or as many together as is configured; one that fails is left out."""
        settings, folder = self.config.hydra.sweeper, Path(self.config.hydra.sweep.dir).resolve()
        sweeper = OptunaSweeperImpl(
            sampler=Remembering(_sampler(settings.sampler), folder / CHOSEN),
            direction=settings.direction,
            storage=None,
            study_name=None,
            n_trials=settings.n_trials,
            n_jobs=settings.n_jobs,
            max_failure_rate=1.0,  # sweep.on_failure decides
            search_space=None,
            custom_search_space=None,
            params=None,  # they are among the overrides
        )
        sweeper.config, sweeper.hydra_context = self.config, self.context
        sweeper.launcher = Watched(self.launcher, watch)
        try:
            sweeper.sweep([_readable(override) for override in self._parsed(arguments)])
        except ValueError as error:
            if "No trials are completed" not in str(error):  # raised where it looks for the best
                raise
        finally:
            secrets.mask_file(folder / RESULTS)

    def _parsed(self, arguments: list[str]) -> list[Override]:
        _check_settings(self.config.hydra.sweeper)
        overrides = super()._parsed(arguments)
        _check_space(overrides)
        return overrides

    def _count(self, overrides: Sequence[Override]) -> int:  # noqa: ARG002  # as many trials, whatever the space
        return int(self.config.hydra.sweeper.n_trials)

    def _jobs(self, overrides: list[Override]) -> list[list[str]]:
        """Return jobs with each value of a choice and both ends of each interval once, the others at their first."""
        values = {override.get_key_element(): _ends(override) for override in overrides}
        first = {key: found[0] for key, found in values.items()}
        jobs = [first] + [first | {key: value} for key, found in values.items() for value in found[1:]]
        return [[f"{key}={value}" for key, value in job.items()] for job in jobs]


class Watched(Launcher):
    """A launcher after which the sweep looks for failures, and before which it stops where they are enough."""

    def __init__(self, launcher: Launcher, watch: Watch) -> None:
        self.launcher, self.watch = launcher, watch

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Set up the launcher."""
        self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the trials that were chosen together."""
        if self.watch.enough:
            raise Stopped
        returned = self.launcher.launch(job_overrides, initial_job_idx=initial_job_idx)
        self.watch.take(returned, initial_job_idx, job_overrides)
        for number, job in enumerate(returned, initial_job_idx):
            loss = outcome(job)
            if isinstance(loss, float) and not math.isfinite(loss):  # Optuna ends the search at a NaN
                job.status = JobStatus.FAILED
                job.return_value = TrainingError(f"job {number} is a failed trial: its best valid/loss is {loss}")
        return returned


def _check_settings(settings: DictConfig) -> None:
    """Raise a ConfigError where a search cannot be made as it is configured."""
    faults = [
        Fault(f"hydra.sweeper.{key}", f"{settings[key]} is given; it should be a whole number of 1 or more")
        for key in ("n_trials", "n_jobs")
        if settings[key] < 1
    ]
    if settings.direction not in DIRECTIONS:
        problem = f"{settings.direction!r} is given; it should be {' or '.join(DIRECTIONS)}"
        faults.append(Fault("hydra.sweeper.direction", problem))
    if faults:
        raise ConfigError(*faults)
    _sampler(settings.sampler)


def _sampler(settings: DictConfig) -> samplers.BaseSampler:
    """Build one of Optuna's own samplers; a configuration cannot name anything else to be called."""
    target = str(settings.get("_target_"))
    module, _, name = target.rpartition(".")
    kind = getattr(samplers, name, None) if module == samplers.__name__ else None
    if not (isinstance(kind, type) and issubclass(kind, samplers.BaseSampler)) or kind is samplers.GridSampler:
        problem = f"{target} is given; it should be one that chooses: tpe, random, cmaes, nsgaii, motpe"
        raise ConfigError(Fault("hydra.sweeper.sampler", problem))
    given: Any = OmegaConf.to_container(settings, resolve=True)
    try:
        return kind(**{key: value for key, value in given.items() if not key.startswith("_")})
    except (TypeError, ValueError) as error:
        raise ConfigError(Fault("hydra.sweeper.sampler", str(error))) from None


def _check_space(overrides: Sequence[Override]) -> None:
    """Raise a ConfigError where every setting is fixed, or Optuna cannot search the values of one."""
    searched = [override for override in overrides if override.is_sweep_override()]
    if not searched:
        problem = "there is nothing to search; for example 'optim.lr=tag(log, interval(0.01, 1))'"
        raise ConfigError(Fault("hydra.sweeper.params", problem))
    if faults := [fault for override in searched if (fault := _space_fault(override))]:
        raise ConfigError(*faults)


def _space_fault(override: Override) -> Fault | None:
    key, given = override.get_key_element(), override.get_value_string()
    if not _ends(override):
        return Fault(key, f"{given} matches no option")
    try:
        create_params_from_overrides([_readable(override)])
    except (AssertionError, ValueError) as error:  # the plugin asserts what a user can get wrong
        return Fault(key, f"{given} cannot be searched: {error}")
    return None


def _readable(override: Override) -> str:
    """Return an override as the plugin reads it, which does not know the options of a glob."""
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return f"{override.get_key_element()}=choice({','.join(override.sweep_string_iterator())})"
    return str(override.input_line)


def _ends(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    if isinstance(value, RangeSweep):  # Optuna includes its stop
        return [str(value.start), str(value.stop)]
    return list(override.sweep_string_iterator())
