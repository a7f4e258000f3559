"""One training of a script, and the components that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments.config.registry import Component, Registry, register
from experiments.config.root import LoaderSettings, RootConfig
from experiments.seeds import Seeds
from experiments.training.transfer import Frozen


@dataclass(frozen=True)
class Training:
    """One training of a script: the run's, or an earlier one whose weights it starts from.

    Args:
        name: its name in a comment.
        root: its configuration.
        seeds: its random streams.
        epochs: how many it trains; for a run that ended early, fewer than are configured.
        frozen: the modules and parameters that it does not train.
    """

    name: str
    root: RootConfig
    seeds: Seeds
    epochs: int
    frozen: Frozen = ([], [])

    @property
    def loader(self) -> LoaderSettings:
        """The settings that all loaders share."""
        return LoaderSettings(**{key: self.root.loader[key] for key in LoaderSettings.model_fields})

    @property
    def plain_rows(self) -> str | None:
        """How a script reads the dataset's rows; None where the dataset declares no such form for its settings."""
        component, arguments = self.component("dataset")
        kinds = [self.component(group)[0].metadata for group in ("model", "loss")]
        as_stored = self.own_loader or kinds[0].get("input") == "tokens" or kinds[1].get("targets") == "input"
        plain = None if as_stored else component.metadata.get("plain")
        return plain(**arguments) if callable(plain) else plain

    @property
    def own_loader(self) -> bool:
        """Whether the loader has no plain form: a script then makes it, and hands it the rows as they are stored."""
        return self.component("loader")[0].metadata.get("plain") is None

    def component(self, group: str) -> tuple[Component, dict[str, Any]]:
        """Return the component chosen in a group of one, and its arguments."""
        settings, registry = getattr(self.root, group), getattr(register, group)
        return bound(registry, settings["name"], registry.own(settings))


def bound(registry: Registry, name: str, arguments: Mapping[str, Any]) -> tuple[Component, dict[str, Any]]:
    """Return a component and its arguments as its factory takes them: a configuration's text may be an enum's name."""
    return registry.get(name), registry.bind(name, arguments).keywords
