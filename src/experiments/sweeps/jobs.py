"""The jobs of a sweep, composed one at a time and checked as runs would be, before the first of them starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.errors import CompactHydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from experiments.config import check, compose
from experiments.config.hydra_internals import ConfigLoader, JobLoader, Override
from experiments.errors import ConfigError, Fault


@dataclass(frozen=True)
class ComposedJob:
    """A job as it will be run.

    Args:
        number: from 0.
        name: its folder, relative to the sweep's.
        given: its overrides, by key.
        config: its configuration, checked.
    """

    number: int
    name: str
    given: dict[str, str]
    config: check.Checked


# The configurations of jobs by their overrides, as Hydra composes them.
Configurations = dict[tuple[str, ...], DictConfig]
KEPT = 200  # of them at most, each some 150 kB: later jobs of a larger sweep are composed again


class Recalling(JobLoader):
    """The loader of a sweep and of a launcher that composes the jobs in its process: it returns what was kept, once.

    What was checked is what runs.

    Args:
        loader: Hydra's own.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        super().__init__(loader)
        self.kept = Configurations()  # each is removed when it is returned

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without what is composed, for a job in another process."""
        return self.__dict__ | {"kept": {}, "composed": {}}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the configuration of the job with these overrides."""
        found = self.kept.pop(tuple(sweep_overrides), None)
        return super().load_sweep_config(master_config, sweep_overrides) if found is None else found


def require_listed(overrides: Sequence[Override]) -> None:
    """Check that the values of each key can be listed, as those of an interval cannot.

    Raises:
        ConfigError: some cannot.
    """
    intervals = [override for override in overrides if override.is_interval_sweep()]
    problem = "is given, which is not a list of values; hydra/sweeper=optuna searches in one"
    if faults := [Fault(one.get_key_element(), f"{one.get_value_string()} {problem}") for one in intervals]:
        raise ConfigError(*faults)


def composed(
    loader: Recalling, master: DictConfig, jobs: Sequence[Sequence[str]], *, keep: bool = False
) -> Iterator[ComposedJob]:
    """Compose and check each job, given by its overrides; have the loader `keep` the first configurations.

    Raises:
        ConfigError: at the end, with all faults, where one of them could not be run.
    """
    faults: dict[str, Fault] = {}
    for number, overrides in enumerate(jobs):
        try:
            cfg = loader.load_sweep_config(master, list(overrides))
            config = check.checked(cfg)
            with open_dict(cfg):  # as the launcher will
                cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
            yield ComposedJob(number, str(cfg.hydra.sweep.subdir), _by_key(overrides), config)
            if keep and len(loader.kept) < KEPT:
                loader.kept[tuple(overrides)] = cfg
        except ConfigError as error:
            faults |= {str(fault): fault for fault in error.faults}
        except (CompactHydraException, OmegaConfBaseException) as error:
            faults |= {str(fault): fault for fault in compose.in_words(error).faults}
    if faults:
        raise ConfigError(*faults.values())


def _by_key(overrides: Sequence[str]) -> dict[str, str]:
    return dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
