"""A search inside a sweep: Optuna chooses the settings of each trial by what the earlier ones came to.

The study lives in memory. What was chosen is kept in the sweep's folder before a trial begins, so that a search that
was interrupted chooses the same again, has its finished trials answer at once, and goes on as if nothing had been.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, ValueType
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from experiments.config import secrets
from experiments.errors import ConfigError, Fault
from experiments.sweeps import monitor

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from optuna.samplers import BaseSampler

CHOSEN = "trials.jsonl"
RESULTS = "optimization_results.yaml"  # the plugin's own
DIRECTIONS = ("minimize", "maximize")
TALKATIVE = ("alembic", "hydra_plugins.hydra_optuna_sweeper")  # at their import, and of what our own table says


def require(config: DictConfig) -> None:
    """See that a search can be made as it is configured.

    Raises:
        ConfigError: Optuna is not installed, or a setting is out of its range.
    """
    if find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
        problem = "it comes with an extra, which is not installed: pip install 'experiments[optuna]'"
        raise ConfigError(Fault("hydra/sweeper=optuna", problem))
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    settings = config.hydra.sweeper
    faults = [
        Fault(f"hydra.sweeper.{key}", f"{settings[key]} is given; it should be a whole number of 1 or more")
        for key in ("n_trials", "n_jobs")
        if settings[key] < 1
    ]
    if settings.direction not in DIRECTIONS:
        given = f"{settings.direction!r} is given; it should be {' or '.join(DIRECTIONS)}"
        faults.append(Fault("hydra.sweeper.direction", given))
    if faults:
        raise ConfigError(*faults)
    _sampler(settings.sampler)


def _sampler(settings: DictConfig) -> BaseSampler:
    """One of Optuna's own; a configuration can name nothing else that would be called."""
    with warnings.catch_warnings():  # Optuna 2.10 is older than the SQLAlchemy that MLflow brings
        warnings.simplefilter("ignore")
        from optuna import samplers
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


def require_space(overrides: Sequence[Override]) -> None:
    """See that there is something to search, and that Optuna can.

    Raises:
        ConfigError: every setting is fixed, or what one is to be chosen from is no space.
    """
    searched = [override for override in overrides if override.is_sweep_override()]
    if not searched:
        problem = "there is nothing to search; for example 'optim.lr=tag(log, interval(0.01, 1))'"
        raise ConfigError(Fault("hydra.sweeper.params", problem))
    if faults := [fault for override in searched if (fault := _space_fault(override))]:
        raise ConfigError(*faults)


def _space_fault(override: Override) -> Fault | None:
    """What Optuna has against the values of a key."""
    key, given = override.get_key_element(), override.get_value_string()
    if not _ends(override):
        return Fault(key, f"{given} matches none of its options")
    with warnings.catch_warnings():  # as above
        warnings.simplefilter("ignore")
        from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

        try:
            create_params_from_overrides([_readable(override)])
        except (AssertionError, ValueError) as error:  # the plugin asserts what a user can get wrong
            return Fault(key, f"{given} cannot be searched: {error}")
    return None


def _readable(override: Override) -> str:
    """An override as the plugin can read it, which does not know what there is for a glob."""
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return f"{override.get_key_element()}=choice({','.join(override.sweep_string_iterator())})"
    return str(override.input_line)


def corners(overrides: Sequence[Override]) -> list[list[str]]:
    """Jobs in which each value of a choice stands once, and both ends of an interval, the others at their first."""
    values = {override.get_key_element(): _ends(override) for override in overrides}
    first = {key: found[0] for key, found in values.items()}
    jobs = [first] + [first | {key: value} for key, found in values.items() for value in found[1:]]
    return [[f"{key}={value}" for key, value in job.items()] for job in jobs]


def _ends(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    if isinstance(value, RangeSweep):  # for Optuna its stop is in it
        return [str(value.start), str(value.stop)]
    return list(override.sweep_string_iterator())


def run(config: DictConfig, context: HydraContext, launcher: Launcher, overrides: Sequence[Override]) -> None:
    """Run the trials, one after the other or as many together as is configured; one that fails is left out."""
    with warnings.catch_warnings():  # as above
        warnings.simplefilter("ignore")
        import optuna
        from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl

        from experiments.sweeps.sampling import Remembering

        optuna.logging.set_verbosity(logging.WARNING)
        settings, folder = config.hydra.sweeper, Path(config.hydra.sweep.dir).resolve()
        sweeper = OptunaSweeperImpl(
            sampler=Remembering(_sampler(settings.sampler), folder / CHOSEN),
            direction=settings.direction,
            storage=None,
            study_name=None,
            n_trials=settings.n_trials,
            n_jobs=settings.n_jobs,
            max_failure_rate=1.0,  # whether a failure ends it is said by sweep.on_failure
            search_space=None,
            custom_search_space=None,
            params=None,  # they are among the overrides
        )
    sweeper.config, sweeper.hydra_context, sweeper.launcher = config, context, Watched(launcher)
    try:
        sweeper.sweep([_readable(override) for override in overrides])
    except ValueError as error:
        if "No trials are completed" not in str(error):  # what it says when it looks for the best
            raise
    finally:
        secrets.mask_file(folder / RESULTS)


class Watched(Launcher):
    """A launcher after which the sweep looks what has failed, and before which it stops where that is enough."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """As Hydra sets up any launcher."""
        self.launcher.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the trials that were chosen together."""
        watching = monitor.watching
        assert watching is not None
        if watching.enough:
            raise monitor.Stopped
        returned = self.launcher.launch(job_overrides, initial_job_idx=initial_job_idx)
        watching.take(returned, initial_job_idx, job_overrides)
        return returned
