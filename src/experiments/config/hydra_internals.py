"""The parts of Hydra that its documentation does not promise, as read from hydra-core 1.3.8.

No other module but `hydra_basic` imports `hydra.core` or `hydra._internal`, or reads a private attribute of Hydra's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, ValueType
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.types import HydraContext

__all__ = [
    "ConfigLoader",
    "ConfigLoaderImpl",
    "ConfigStore",
    "GlobalHydra",
    "HydraConfig",
    "IntervalSweep",
    "JobReturn",
    "JobStatus",
    "Override",
    "RangeSweep",
    "ValueType",
    "callbacks",
    "configure_log",
    "forget_option",
    "load_plugins",
    "outcome",
]


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
