"""Compose a configuration without Hydra's command line, and reword Hydra's errors for a user."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from experiments.config import discovery
from experiments.config.hydra_internals import ConfigStore, GlobalHydra
from experiments.config.registry import register
from experiments.errors import ConfigError, Fault, first_line, suggestion

SINGLE = {registry.group for registry in register if not registry.many} | {"device", "tracking", "stage"}


def searching(config_dir: str | Path) -> str:
    """Return the override that is equal to `--config-dir` on the command line.

    Raises:
        ConfigError: there is no such folder.
    """
    if not Path(config_dir).is_dir():
        raise ConfigError(Fault("config_dir", f"there is no folder {config_dir}"))
    address = f"file://{Path(config_dir).resolve()}"
    return f"hydra.searchpath=[{quoted(address)}]"


def quoted(text: str) -> str:
    """Quote any text as the value of an override."""
    # Hydra's quoting: a backslash before a quote, or before backslashes that stand before one, or at the end.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


def open_tags(overrides: Sequence[str]) -> list[str]:
    """Return overrides in which `tags.paper=draft` may add a key, as Hydra lets `++` do."""
    return [f"++{word}" if word.startswith("tags.") and "=" in word else word for word in overrides]


def compose(overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration of a command line with these overrides, Hydra's part included.

    Args:
        overrides: as on the command line, `["model=cnn", "optim.lr=0.1"]`.

    Raises:
        ConfigError: it cannot be composed.
    """
    started: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    try:
        if not GlobalHydra.instance().is_initialized():
            discovery.register_with_hydra()
            started = initialize_config_module("experiments.conf", version_base="1.3", job_name="experiments")
        with started:
            return hydra_compose("config", open_tags(overrides), return_hydra_config=True)
    except Exception as error:
        if not (is_users(error) or isinstance(error, OmegaConfBaseException)):
            raise
        raise in_words(error) from error


def is_users(error: Exception) -> bool:
    """Return whether an error that Hydra raises is a user's mistake: an unknown option, `stage=10`, invalid YAML."""
    return _chooses_no_name(error) or isinstance(error, HydraException | YAMLError | UnicodeDecodeError)


def _chooses_no_name(error: Exception) -> bool:
    return isinstance(error, ValueError) and str(error).startswith("Config group override must be a string")


def in_words(error: Exception) -> ConfigError:
    """Reword an error of Hydra's composition: what was chosen, what is available, the nearest name."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        # For an option in a list, callbacks=[early_stopping], Hydra does not list the available ones.
        options = _options(group) if error.options is None else error.options
        problem = f"there is no such option{suggestion(option, options)}"
        if group == "device" and ":" in option:
            problem += "; to choose one card of several: device=cuda device.index=1"
        return ConfigError(Fault(f"{group}={option}", problem))
    if isinstance(error, YAMLError | UnicodeDecodeError):
        return ConfigError(Fault("configuration", f"invalid YAML: {' '.join(str(error).split())}"))
    if _chooses_no_name(error):
        problem = "choose an option by its whole name, not by a number or null (stage=10_cnn, not stage=10)"
        return ConfigError(Fault("configuration", problem))
    cause = error.__cause__ or error
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(cause.parent_node, DictConfig):
        parent = cause.parent_node
        known = [str(key) for key in parent if key != "hydra"]
        return ConfigError(Fault(str(cause.full_key), f"unknown key{suggestion(cause.key, known)}"))
    text = str(error)
    if cause is not error and str(cause) not in text:
        text += f" ({first_line(cause)})"
    return ConfigError(Fault("configuration", " ".join(text.split())))


def _options(group: str) -> list[str]:
    """Return the options of a group, shipped and own."""
    shipped = resources.files("experiments.conf").joinpath(group)
    names = [file.name for file in shipped.iterdir()] if shipped.is_dir() else []
    with contextlib.suppress(OSError):  # no option is stored
        names += ConfigStore.instance().list(group)
    return sorted({name.removesuffix(".yaml") for name in names if name.endswith(".yaml")})


def require_single(hydra: Any) -> None:
    """Check that a group of which a run has one component is given one option.

    Raises:
        ConfigError: it is given a list, whose options Hydra would merge.
    """
    # Not resolved: an interpolation in an override cannot be resolved here.
    for override in OmegaConf.to_container(hydra.overrides.task, resolve=False) or ():
        group, _, choice = str(override).lstrip("+").partition("=")
        if group in SINGLE and choice.startswith("["):
            problem = f"it takes one option; to compare several: -m {group}={choice.strip('[]')}"
            raise ConfigError(Fault(group, problem))


def choices(hydra: Any) -> dict[str, str]:
    """Return the chosen option of every group of ours, by group; several at once joined by commas."""
    found = {}
    for group, choice in hydra.runtime.choices.items():
        if choice is None or "/" in group or group.startswith("hydra"):
            continue
        found[str(group)] = ",".join(choice) if OmegaConf.is_list(choice) else str(choice)
    return found
