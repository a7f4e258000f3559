"""The overrides that a run was started with, and those of a run that resumes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.config.compose import SINGLE
from experiments.config.secrets import HIDDEN
from experiments.errors import ConfigError, Fault


def key(override: str) -> str:
    """Return the key of an override."""
    return override.lstrip("+~").split("=", 1)[0]


def settled(overrides: Any, cfg: DictConfig) -> list[str]:
    """Return a job's overrides with their interpolations resolved.

    One that stands in quotes would keep them, so that a number (`seed='${oc.decode:${oc.env:SEED}}'`) became a text.
    """
    written: Any = OmegaConf.to_container(overrides, resolve=False)
    return [_settled(str(raw), str(told), cfg) for raw, told in zip(written, overrides, strict=True)]


def _settled(raw: str, resolved: str, cfg: DictConfig) -> str:
    value = OmegaConf.select(cfg, key(raw)) if re.fullmatch(r"""[^=]+=(["'])\$\{.*\}\1""", raw) else None
    return f"{raw.partition('=')[0]}={value}" if isinstance(value, bool | int | float) else resolved


def hidden(overrides: Sequence[str]) -> set[str]:
    """Return the keys of kept overrides whose value was masked."""
    return {key(override) for override in overrides if HIDDEN in override}


def merge(started_with: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return the overrides of a resumed run; masked values of its start have to be given again.

    Raises:
        ConfigError: one is not given.
    """
    again = {key(override): override for override in given if key(override) in hidden(started_with)}
    if missing := sorted(hidden(started_with) - set(again)):
        problem = "it holds a secret, which is not kept; give it again: "
        raise ConfigError(*(Fault(name, f"{problem}{name}=...") for name in missing))
    # In its place: the order of the swept keys numbers the jobs.
    started_with = [again.get(key(override), override) for override in started_with]
    return [*started_with, *(override for override in given if key(override) not in again)]


def replaced(started_with: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return the overrides of a run for another one, with those given in their place.

    Another option (dataset=fashion_mnist) does not get the settings that the former one had.

    Raises:
        ConfigError: a masked value is not given again.
    """
    anew = {key(override) for override in given}
    options = tuple(f"{name}." for name in anew & SINGLE)
    kept = [override for override in started_with if not key(override).startswith(options)]
    # A key that was added stays: what changes it does not add it.
    return merge([override for override in kept if key(override) not in anew or override.startswith("+")], given)
