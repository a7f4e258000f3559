"""The check of a configuration before any side effect: names, types, ranges, and what must fit together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel

from experiments.config import compose, device, discovery, pair_checks, secrets
from experiments.config.registry import register
from experiments.config.root import LoaderSettings, OptimSettings, RootConfig, SweepingConfig, TutorialConfig
from experiments.config.schema import model_faults, validated
from experiments.errors import ConfigError, Fault

# These keys tell Hydra's `instantiate` what to call, and how.
HYDRA_KEYS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")

# The settings that all components of a group share.
COMMON: Mapping[str, type[BaseModel]] = {"loader": LoaderSettings, "optim": OptimSettings}


@dataclass(frozen=True)
class Checked:
    """A configuration that can be run."""

    values: dict[str, Any]  # plain values by key, without Hydra's own part
    root: RootConfig  # the same, typed
    choices: dict[str, str]  # the chosen option of every group


def configured(overrides: Sequence[str]) -> Checked:
    """Compose and check the configuration of a command line with these overrides.

    Raises:
        ConfigError: with all faults.
    """
    return checked(compose.compose(overrides))


def checked(cfg: DictConfig, hydra: Any = None) -> Checked:
    """Check a composed configuration, and mask its secrets from now on.

    In a job the configuration does not hold Hydra's own part, `hydra`.

    Raises:
        ConfigError: with all faults.
    """
    hydra = cfg.hydra if hydra is None else hydra
    compose.require_usable(hydra)
    values = resolve(cfg)
    return Checked(values, check(values), compose.choices(hydra))


def resolve(cfg: DictConfig, *only: str) -> dict[str, Any]:
    """Return a composed configuration, or only these keys of it, as plain values without Hydra's own part.

    Raises:
        ConfigError: a required value is missing, or an interpolation cannot be resolved.
    """
    secrets.learn(cfg)  # before a message can contain one
    own = [str(key) for key in cfg if key != "hydra" and (not only or key in only)]
    try:
        if missing := sorted(path for key in own for path in _missing(cfg, key)):
            raise ConfigError(*(Fault(path, f"a value is required: {path}=...") for path in missing))
        # Key by key, since a copy without Hydra's part takes longer than all else here
        return {key: _plain(cfg[key]) for key in own}
    except OmegaConfBaseException as error:
        # Only the key: the message may hold the value of an environment variable.
        raise ConfigError(Fault(str(error.full_key), _why_unresolved(error))) from None
    except RecursionError:
        raise ConfigError(Fault("configuration", "circular interpolation")) from None


def check(values: dict[str, Any]) -> RootConfig:
    """Check every name, type and range, and what must fit together; nothing is built.

    Raises:
        ConfigError: with all faults.
    """
    if faults := list(_import_paths(values)):
        raise ConfigError(*faults)
    discovery.load()
    faults = [*model_faults(RootConfig, values), *_component_faults(values)]
    if not faults:
        root = RootConfig.model_validate(values)
        faults = [*device.faults(root.device), *pair_checks.faults(root)]
        faults = faults or [*pair_checks.ranks_faults(root)]
        if root.tutorial:  # checked but kept as it is, since its readers take it by key
            faults += model_faults(TutorialConfig, root.tutorial, "tutorial")
        if not faults:
            return root
    raise ConfigError(*faults)


def check_sweep(cfg: DictConfig) -> None:
    """Check a sweep's own settings: its jobs may set values that its configuration lacks.

    Raises:
        ConfigError: with all faults.
    """
    validated(SweepingConfig, resolve(cfg, "sweep"))


def _component_faults(values: dict[str, Any]) -> Iterator[Fault]:
    for registry in register:
        chosen = values.get(registry.group)
        if not isinstance(chosen, dict):
            continue
        if not registry.many:
            own = registry.own(chosen)
            common = {key: value for key, value in chosen.items() if key in registry.common and key not in own}
            if registry.group in COMMON:
                yield from model_faults(COMMON[registry.group], common, registry.group)
            yield from registry.faults(chosen.get("name"), own)
            continue
        for name, arguments in chosen.items():
            if isinstance(arguments, dict):
                yield from registry.faults(name, arguments, key=f"{registry.group}.{name}")


def _missing(cfg: DictConfig, key: str) -> list[str]:
    if OmegaConf.is_missing(cfg, key):
        return [key]
    value = cfg[key]
    return list(OmegaConf.missing_keys(value)) if OmegaConf.is_config(value) else []


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _import_paths(values: Any, path: str = "") -> Iterator[Fault]:
    """Find keys that would name code, at any depth."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        where = f"{path}.{key}" if path else str(key)
        if key in HYDRA_KEYS:
            problem = "configuration names registered components, never import paths; register a component instead"
            yield Fault(where, problem)
        yield from _import_paths(value, where)


def _why_unresolved(error: OmegaConfBaseException) -> str:
    variable = re.search(r"Environment variable '(\w+)' not found", str(error))
    if variable:
        return f"the environment variable {variable[1]} is not set"
    if "Recursive" in str(error):
        return "circular interpolation"
    return f"its interpolation cannot be resolved ({type(error).__name__})"
