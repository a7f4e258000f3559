"""One training of a script, and the components that it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from experiments.config import LoaderSettings, RootConfig
from experiments.registry import Component, register
from experiments.seeds import Seeds


@dataclass(frozen=True)
class Training:
    """One training of a script: the run's, or one before it whose weights it starts from.

    Args:
        name: what it is called in a comment.
        root: its configuration.
        seeds: its random streams.
        epochs: how many it trains; for a run that ended early, fewer than are configured.
    """

    name: str
    root: RootConfig
    seeds: Seeds
    epochs: int

    def component(self, group: str) -> tuple[Component, dict[str, Any]]:
        """The component chosen in a group of one, and its arguments."""
        arguments = dict(getattr(self.root, group))
        component = getattr(register, group).get(arguments.pop("name"))
        if group == "loader":
            arguments = {key: value for key, value in arguments.items() if key not in LoaderSettings.model_fields}
        return component, arguments
