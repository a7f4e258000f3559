"""Hydra's basic sweeper and launcher, which are not public either, as read from hydra-core 1.3.8.

Import it only after Hydra's scan for plugins, which executes their modules again and so replaces their classes.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

__all__ = ["BasicLauncher", "BasicSweeper", "BasicSweeperConf", "parsed_overrides"]


def parsed_overrides(sweeper: BasicSweeper, arguments: Sequence[str]) -> list[Override]:
    """Parse the overrides of a sweep: `hydra.sweeper.params`, then the command line."""
    assert sweeper.hydra_context is not None
    parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
    return parser.parse_overrides([*sweeper._parse_config(), *arguments])
