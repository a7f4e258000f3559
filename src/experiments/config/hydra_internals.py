"""The parts of Hydra that its documentation does not promise, as read from hydra-core 1.3.8.

No other module but `hydra_basic` imports `hydra.core` or `hydra._internal`, or reads a private attribute of Hydra's.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, ValueType
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import OmegaConfBaseException

__all__ = [
    "ConfigLoader",
    "ConfigStore",
    "GlobalHydra",
    "HydraConfig",
    "IntervalSweep",
    "JobLoader",
    "JobReturn",
    "JobStatus",
    "Override",
    "RangeSweep",
    "ValueType",
    "callbacks",
    "configure_log",
    "forget_option",
    "get_args_parser",
    "isolated",
    "load_plugins",
    "misread",
    "outcome",
    "run_main",
    "texts",
]

COMPOSED = 100  # configurations that are kept for copies of them, each some 150 kB
HYDRAS = ("hydra", "_dummy_empty_config_.yaml")  # of the store's options, those of Hydra and its plugins


class JobLoader(ConfigLoaderImpl):
    """Hydra's loader, which composes jobs of a sweep with the same choices of groups once; the rest are copies of it.

    Most jobs of a sweep differ in values alone, and a copy that is given its values takes a fifth of a composition.

    Args:
        loader: Hydra's own.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        super().__init__(loader.get_search_path())
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the configuration of the job with these overrides."""
        parsed = OverridesParser.create().parse_overrides(sweep_overrides)
        # A group given as a dictionary is merged in the order of the values; other folders have other groups.
        if any(isinstance(one.value(), dict) for one in parsed) or master_config.hydra.searchpath:
            return super().load_sweep_config(master_config, sweep_overrides)
        values = [one for one in parsed if self._is_value(one)]
        choices = tuple(one.input_line or "" for one in parsed if not self._is_value(one))
        if choices not in self.composed:
            if len(self.composed) == COMPOSED:
                self.composed.clear()
            self.composed[choices] = super().load_sweep_config(master_config, [*choices])
        found = copy.deepcopy(self.composed[choices])
        hydra = found.hydra
        try:
            self._apply_overrides_to_config(values, found)
        except (HydraException, OmegaConfBaseException):
            return super().load_sweep_config(master_config, sweep_overrides)  # which says it with its own words
        task = [one for one in parsed if not one.is_hydra_override()]
        hydra.overrides.task = [one.input_line for one in task]
        hydra.job.override_dirname = get_overrides_dirname(task, **hydra.job.config.override_dirname)
        return found

    def _is_value(self, override: Override) -> bool:
        """Return whether an override changes nothing but a value of what is composed."""
        key = override.key_or_group
        return override.package is None and not override.is_hydra_override() and not self.repository.group_exists(key)


def load_plugins() -> None:
    """Import Hydra's plugins, which store their options."""
    Plugins.instance()


def forget_option(group: str, name: str) -> None:
    """Remove an option that a plugin stored; Hydra would use it as the schema of a file of the same name."""
    options: Any = ConfigStore.instance().repo
    for part in group.split("/"):
        options = options.get(part, {})
    options.pop(f"{name}.yaml", None)


def outcome(job: JobReturn) -> Any:
    """Return what a job returned or raised; Hydra's property would raise it again."""
    return job._return_value


def callbacks(context: HydraContext) -> Sequence[Any]:
    """Return the callbacks that Hydra calls in this process."""
    return context.callbacks.callbacks


def run_main(task: Callable[..., Any], given: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Do what `hydra.main` does with a parsed command line."""
    version.setbase("1.3")
    _run_hydra(given, parser, task, config_path="pkg://experiments.conf", config_name="config")


def misread(override: str) -> str:
    """Return what Hydra's parser says of an override that it cannot read; empty if it can."""
    try:
        OverridesParser.create().parse_override(override)
    except HydraException as error:
        return str(error) or type(error).__name__
    return ""


def texts(override: str) -> list[str]:
    """Return the texts of an override's value, a text or a list of texts; none if Hydra cannot read it."""
    if misread(override):
        return []
    value = OverridesParser.create().parse_override(override).value()
    return [str(text) for text in (value if isinstance(value, list) else [value])]


@contextlib.contextmanager
def isolated() -> Iterator[bool]:
    """Give our composition Hydra's global state to itself, and restore another application's afterwards.

    Yields whether Hydra has to be initialised: not in a job of ours, whose search path is used.
    """
    ours, store, base = GlobalHydra.instance(), ConfigStore.instance(), version.VersionBase.instance()
    if ours.hydra and any(
        (path.provider, path.path) == ("main", "pkg://experiments.conf")
        for path in ours.config_loader().get_search_path().get_path()
    ):
        yield False
        return
    load_plugins()  # before, for they stay and store their options once
    hydra, repo, before, resolvers = ours.hydra, store.repo, base.getbase(), dict(BaseContainer._resolvers)
    store.repo = copy.deepcopy({key: node for key, node in repo.items() if key in HYDRAS})
    ours.clear()
    try:
        yield True
    finally:
        ours.hydra, store.repo = hydra, repo
        GlobalHydra.set_instance(ours)
        base.version_base = before  # not setbase(), which refuses what it is before the first
        BaseContainer._resolvers.update(resolvers)  # others stay: what was composed may name them
