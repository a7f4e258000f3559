"""The jobs of a sweep, composed one at a time and checked as runs would be, before the first of them begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.errors import CompactHydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from experiments import composing, config
from experiments.errors import ConfigError, Fault

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

    from experiments.config import RootConfig


@dataclass(frozen=True)
class ComposedJob:
    """A job as it will be run.

    Args:
        number: from 0.
        name: what its folder is called, within the sweep's.
        given: what the command line gives it, by key.
        values: its configuration.
        root: the same, checked.
        choices: the chosen option of every group.
    """

    number: int
    name: str
    given: dict[str, str]
    values: dict[str, Any]
    root: RootConfig
    choices: dict[str, str]


def composed(loader: ConfigLoader, master: DictConfig, jobs: Sequence[Sequence[str]]) -> Iterator[ComposedJob]:
    """Every job that could run, in turn, none of them kept.

    Args:
        loader: Hydra's.
        master: the sweep's own configuration.
        jobs: the overrides of each.

    Raises:
        ConfigError: at the end, with all faults, where one of them could not be run.
    """
    faults: dict[str, Fault] = {}
    for number, overrides in enumerate(jobs):
        try:
            yield _composed(loader, master, number, overrides)
        except ConfigError as error:
            faults |= {str(fault): fault for fault in error.faults}
        except (CompactHydraException, OmegaConfBaseException) as error:
            faults |= {str(fault): fault for fault in composing.in_words(error).faults}
    if faults:
        raise ConfigError(*faults.values())


def by_key(overrides: Sequence[str]) -> dict[str, str]:
    """What overrides give, by the key that they give it to."""
    return dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)


def _composed(loader: ConfigLoader, master: DictConfig, number: int, overrides: Sequence[str]) -> ComposedJob:
    cfg = loader.load_sweep_config(master, list(overrides))
    composing.require_single(cfg.hydra)
    values = config.resolve(cfg)
    root = config.check(values)
    with open_dict(cfg):  # as the launcher will
        cfg.hydra.job.num, cfg.hydra.job.id = number, str(number)
    return ComposedJob(
        number, str(cfg.hydra.sweep.subdir), by_key(overrides), values, root, composing.choices(cfg.hydra)
    )
