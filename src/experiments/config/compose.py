"""Compose a configuration without Hydra's command line, and reword Hydra's errors for a user."""

from __future__ import annotations

import difflib
import re
import shlex
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from experiments.config import discovery, options
from experiments.config.hydra_internals import isolated, misread
from experiments.config.overrides import as_text, quoted, readable
from experiments.config.registry import register
from experiments.errors import ConfigError, Fault, first_line, suggestion
from experiments.files import expanded

HYDRAS = ("Config group override must be", "Only one of --run", "The --resolve flag")  # that are ValueErrors
SWEEP = re.compile(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'")
A_SWEEP = "a sweep needs -m (or --multirun): python -m experiments -m ..."
NO_SWEEP = "a sweep is started from the command line: python -m experiments -m ..."
TAG = re.compile(r"^\+\+(?=tags[.=])")  # what `readable` adds, so that a tag may be new
REFUSED = re.compile(r"(?:at|input):? '(<EOF>|.)")  # the first character that Hydra's parser names
SINGLE = {registry.group for registry in register if not registry.many} | {"device", "tracking", "stage"}


def searching(config_dir: str | Path) -> str:
    """Return the override that is equal to `--config-dir` on the command line.

    Raises:
        ConfigError: there is no such folder.
    """
    folder = expanded(config_dir)
    options.require_folder("config_dir", str(folder))
    address = f"file://{folder.resolve()}"
    return f"hydra.searchpath=[{quoted(address)}]"


def compose(overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration of a command line with these overrides, Hydra's part included.

    Args:
        overrides: as on the command line, `["model=cnn", "optim.lr=0.1"]`.

    Raises:
        ConfigError: it cannot be composed.
    """
    overrides = readable(overrides)
    with isolated() as alone:
        try:
            if alone:
                discovery.register_with_hydra()
                initialize_config_module("experiments.conf", "experiments", version_base="1.3")
            return hydra_compose("config", overrides, return_hydra_config=True)
        except Exception as error:
            if not (is_users(error) or isinstance(error, OmegaConfBaseException)):
                raise
            raise in_words(error) from error


def is_users(error: Exception) -> bool:
    """Return whether an error that Hydra raises is a user's mistake: an unknown option, two flags, invalid YAML."""
    known = isinstance(error, HydraException | YAMLError | UnicodeDecodeError) or str(error).startswith(HYDRAS)
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return known and not any(module.startswith("experiments.training.") for module in modules)  # an own component's


def in_words(error: Exception) -> ConfigError:
    """Reword an error of Hydra's composition: what was chosen, what is available, the nearest name."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        return ConfigError(options.missing(group, option, error.options))
    if isinstance(error, YAMLError | UnicodeDecodeError):
        return ConfigError(Fault("configuration", f"invalid YAML: {' '.join(str(error).split())}"))
    if isinstance(error, OverrideParseException):
        return ConfigError(_unreadable(TAG.sub("", error.override)))
    if sweep := SWEEP.match(str(error)):
        override = TAG.sub("", sweep[1])
        return ConfigError(Fault(override, f"{A_SWEEP} {shlex.quote(override)}; or one text: {as_text(override)}"))
    cause = error.__cause__ or error
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and isinstance(cause.parent_node, DictConfig):
        asked = re.search(r"override '([^']+)'", str(error))
        return ConfigError(_unknown(cause, asked[1] if asked else str(cause.full_key)))
    text = str(error)
    if cause is not error and str(cause) not in text:
        text += f" ({first_line(cause)})"
    return ConfigError(Fault("configuration", " ".join(text.split())))


def _unreadable(override: str) -> Fault:
    """Return the fault of an override that Hydra cannot read: the character, and the value in quotes."""
    key, equals, _ = override.partition("=")
    if override in ("-m", "--multirun"):
        return Fault(override, NO_SWEEP)
    if not key or not equals or override.startswith("-"):
        return Fault(override, "an override is key=value without spaces, for example epochs=5")
    problem = misread(override)
    if not (refused := REFUSED.search(problem)):
        return Fault(override, first_line(problem).rpartition("': ")[2])
    character = f"'{refused[1]}'" if refused[1] != "<EOF>" else "its end"
    if refused[1] in key:
        odd = re.search(r"[^\w.@/:+~-]", key, re.ASCII)  # the parser may name the dot before it
        return Fault(override, f"{character if odd is None else repr(odd[0])} cannot be part of a key")
    return Fault(override, f"{character} does not fit Hydra's grammar of values; as text: {as_text(override)}")


def _unknown(error: ConfigKeyError | ConfigAttributeError, asked: str) -> Fault:
    """Return the fault of an unknown key: its places in the whole configuration, else the nearest key."""
    known = [str(key) for key in error.parent_node if key != "hydra"]
    leaf, whole = asked.rpartition(".")[2], OmegaConf.to_container(error.parent_node._get_root(), resolve=False)
    leaves = {path: path.rpartition(".")[2] for path in _paths(whole)}
    meant = [leaf] if leaf in leaves.values() else difflib.get_close_matches(leaf, leaves.values(), n=1, cutoff=0.75)
    elsewhere = [path for path in leaves if leaves[path] in meant] if not {*meant} & {*known} else []
    return Fault(asked, f"unknown key{suggestion(error.key, known, elsewhere)}")


def _paths(values: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of each key of ours, at any depth."""
    for key, value in values.items() if isinstance(values, dict) else ():
        if prefix or key != "hydra":
            yield f"{prefix}{key}"
            yield from _paths(value, f"{prefix}{key}.")


def require_usable(hydra: Any) -> None:
    """Check Hydra's own settings: one option of a group of which a run has one component, and nothing that breaks runs.

    Raises:
        ConfigError: such a group has a list, whose options Hydra would merge, or a setting cannot be used.
    """
    # Not resolved: an interpolation in an override cannot be resolved here.
    for override in OmegaConf.to_container(hydra.overrides.task, resolve=False) or ():
        group, _, choice = str(override).lstrip("+").partition("=")
        if group in SINGLE and choice.startswith("["):
            problem = f"it takes one option; to compare several: -m {group}={choice.strip('[]')}"
            raise ConfigError(Fault(group, problem))
    if hydra.job.chdir:
        problem = "every path would be below the run's own folder, MLflow's store too; a run needs no other folder"
        raise ConfigError(Fault("hydra.job.chdir", f"{problem}: leave it false"))
    if hydra.job.name != "experiments":
        raise ConfigError(Fault("hydra.job.name", "it is the name of a run's log; to name a run: name=..."))
    if hydra.runtime.choices.get("hydra/job_logging") in ("disabled", "none"):
        raise ConfigError(
            Fault("hydra/job_logging", "a run's lines and its experiments.log would be lost; leave it out")
        )


def choices(hydra: Any) -> dict[str, str]:
    """Return the chosen option of every group of ours, by group; several at once joined by commas."""
    found = {}
    for group, choice in hydra.runtime.choices.items():
        if choice is None or "/" in group or group.startswith("hydra"):
            continue
        found[str(group)] = ",".join(choice) if OmegaConf.is_list(choice) else str(choice)
    return found
