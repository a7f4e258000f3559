"""The check of a configuration before any side effect: names, types, ranges, and what must fit together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments import ranks
from experiments.config import compose, device, discovery, secrets
from experiments.config.registry import register
from experiments.config.root import LoaderSettings, RootConfig, SweepingConfig, TutorialConfig
from experiments.config.schema import model_faults
from experiments.config.store_uri import uri_fault
from experiments.errors import ConfigError, Fault
from experiments.files import folder_fault

# By these keys Hydra's `instantiate` is told what to call, and how.
HYDRA_KEYS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


@dataclass(frozen=True)
class Checked:
    """A configuration that can be run.

    Args:
        values: plain values by key, without Hydra's own part.
        root: the same, typed.
        choices: the chosen option of every group.
    """

    values: dict[str, Any]
    root: RootConfig
    choices: dict[str, str]


def configured(overrides: Sequence[str]) -> Checked:
    """The configuration that a command line with these overrides would have.

    Raises:
        ConfigError: with all faults that were found.
    """
    return checked(compose.compose(overrides))


def checked(cfg: DictConfig) -> Checked:
    """A composed configuration, with Hydra's own part, as plain and typed values; its secrets are masked from now on.

    Raises:
        ConfigError: with all faults that were found.
    """
    compose.require_single(cfg.hydra)
    values = resolve(cfg)
    return Checked(values, check(values), compose.choices(cfg.hydra))


def resolve(cfg: DictConfig, *only: str) -> dict[str, Any]:
    """The composed configuration as plain values, without Hydra's own part; where some are named, of these keys alone.

    Raises:
        ConfigError: a required value is missing, or an interpolation leads nowhere.
    """
    secrets.learn(cfg)  # before any value can be told
    own = [str(key) for key in cfg if key != "hydra" and (not only or key in only)]
    try:
        missing = sorted(missing for key in own for missing in _missing(cfg, key))
        if missing:
            raise ConfigError(*(Fault(key, f"a value is required: {key}=...") for key in missing))
        # Key by key, since a copy without Hydra's part takes longer than all else here
        return {key: _plain(cfg[key]) for key in own}
    except OmegaConfBaseException as error:
        # Only the key is told: the message may hold the value of an environment variable.
        raise ConfigError(Fault(str(error.full_key), _why_unresolved(error))) from None
    except RecursionError:
        raise ConfigError(Fault("configuration", "circular interpolation")) from None


def check(values: dict[str, Any]) -> RootConfig:
    """Every name, type and range, and every pair that must fit; nothing is built, nothing is touched.

    Raises:
        ConfigError: with all faults that were found.
    """
    faults = list(_import_paths(values))
    if faults:
        raise ConfigError(*faults)
    discovery.load()
    loader = dict(values.get("loader") or {})
    settings = {key: loader.pop(key) for key in LoaderSettings.model_fields if key in loader}
    faults += model_faults(RootConfig, values)
    faults += model_faults(LoaderSettings, settings, "loader")
    for registry in register:
        chosen = values.get(registry.group)
        if not isinstance(chosen, dict):
            continue
        if registry.many:
            for name, arguments in chosen.items():
                if isinstance(arguments, dict):
                    faults += registry.faults(name, arguments, key=f"{registry.group}.{name}")
        else:
            arguments = dict(loader if registry.group == "loader" else chosen)
            faults += registry.faults(arguments.pop("name", None), arguments)
    if not faults:
        root = RootConfig.model_validate(values)
        faults = [*device.faults(root.device), *_pair_faults(root)]
        faults = faults or [*ranks_faults(root, device.pick(root.device), torch.cuda.device_count())]
        if root.tutorial:  # checked but kept as it is, since its readers take it by key
            faults += model_faults(TutorialConfig, root.tutorial, "tutorial")
        if not faults:
            return root
    raise ConfigError(*faults)


def check_sweep(cfg: DictConfig) -> None:
    """What a sweep goes by itself, alone: its jobs bring values that its own configuration may lack.

    Raises:
        ConfigError: with all faults that were found.
    """
    if faults := model_faults(SweepingConfig, resolve(cfg, "sweep")):
        raise ConfigError(*faults)


def ranks_faults(root: RootConfig, device: torch.device, cards: int) -> Iterator[Fault]:
    """Why a configuration cannot be trained by so many processes.

    Args:
        root: the configuration.
        device: what this process would compute on.
        cards: CUDA cards of this machine.
    """
    if ranks.world() == 1:
        return
    here = ranks.here()
    if root.device.index is not None:
        yield Fault("device.index", "torchrun gives each process a card of its own; leave it out, or start no torchrun")
    if device.type == "mps":
        yield Fault("device", "torch has no exchange between processes on mps; device=cpu has")
    if device.type == "cuda" and here > cards:
        problem = f"torchrun started {here} processes on this machine, which has {cards} cards"
        yield Fault("device", f"{problem}; --nproc-per-node {cards}, or device=cpu")
    if root.device.graph:
        problem = "a graph holds the work of one card, and in each step the processes exchange gradients"
        yield Fault("device.graph", f"{problem}; device.graph=false trains with many")
    if root.inspect.breakpoint:
        yield Fault(
            "inspect.breakpoint", f"a debugger can stop in one process, and here are {ranks.world()}; leave torchrun"
        )
    for key in ("batch_size", "valid_batch_size"):
        if (rows := root.loader[key]) < ranks.world():
            problem = f"{rows} rows cannot be shared among {ranks.world()} processes; {ranks.world()} are the least"
            yield Fault(f"loader.{key}", problem)


def _missing(cfg: DictConfig, key: str) -> list[str]:
    if OmegaConf.is_missing(cfg, key):
        return [key]
    value = cfg[key]
    return list(OmegaConf.missing_keys(value)) if OmegaConf.is_config(value) else []


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _import_paths(values: Any, path: str = "") -> Iterator[Fault]:
    """Keys that would name code: configuration names components, at any depth."""
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        where = f"{path}.{key}" if path else str(key)
        if key in HYDRA_KEYS:
            problem = "configuration names registered components, never import paths; register a component instead"
            yield Fault(where, problem)
        yield from _import_paths(value, where)


def _pair_faults(root: RootConfig) -> Iterator[Fault]:
    if root.tracking.name == "mlflow" and (problem := uri_fault(root.tracking.uri)):
        yield Fault("tracking.uri", problem)
    scheduler, optim = register.scheduler.get(root.scheduler["name"]), register.optim.get(root.optim["name"])
    if scheduler.metadata.get("steers", True) and not optim.metadata.get("schedulable", True):
        yield Fault("scheduler", f"{scheduler.name} steers an optimiser of torch; optim {optim.name} is none")
    if root.device.graph and root.inspect.breakpoint:
        yield Fault("device.graph", "a debugger cannot stop within a graph; device.graph=false with debug=step")
    loss, model = register.loss.get(root.loss["name"]), register.model.get(root.model["name"])
    if loss.metadata.get("input") == "log_probabilities" != model.metadata.get("output"):
        problem = f"{loss.name} takes log-probabilities, model {model.name} returns logits; loss=cross_entropy fits"
        yield Fault("loss", problem)
    if problem := folder_fault(Path(root.output_root)):
        yield Fault("output_root", f"{problem}; everything a run leaves behind goes there")


def _why_unresolved(error: OmegaConfBaseException) -> str:
    variable = re.search(r"Environment variable '(\w+)' not found", str(error))
    if variable:
        return f"the environment variable {variable[1]} is not set"
    if "Recursive" in str(error):
        return "circular interpolation"
    return f"its interpolation cannot be resolved ({type(error).__name__})"
