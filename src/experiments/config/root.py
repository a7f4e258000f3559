"""The configuration as a whole: its typed root, and the check before any side effect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from experiments import ranks
from experiments.config import discovery, secrets
from experiments.config.registry import CONTROL, register
from experiments.config.schema import STRICT, model_faults
from experiments.config.store_uri import uri_fault
from experiments.errors import ConfigError, Fault
from experiments.files import folder_fault
from experiments.training.device import DeviceConfig, pick
from experiments.training.device import faults as device_faults

Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Positive = Annotated[int, Ge(1)]


def _one_line(name: str) -> str:
    if CONTROL.search(name):
        raise PydanticCustomError("name", "it should have no line breaks or other control characters")
    return name


# What a run or an experiment is called, in MLflow too.
Name = Annotated[str, MinLen(1), MaxLen(250), AfterValidator(_one_line)]

COMPONENT_GROUPS = ("dataset", "model", "loss", "optim", "loader", "scheduler")
MAPPING_GROUPS = ("transforms", "metrics", "callbacks")
# By these keys Hydra's `instantiate` is told what to call, and how.
HYDRA_KEYS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


class _Strict(BaseModel):
    model_config = STRICT


class SeedsConfig(_Strict):
    """Each random stream's own number, or none."""

    init: Seed | None
    data_order: Seed | None
    noise: Seed | None


class EvaluationConfig(_Strict):
    """How a validation mean is taken."""

    mean: Literal["samples", "batches"]


class InspectConfig(_Strict):
    """The debug overlays' switches."""

    breakpoint: bool
    profile: bool


class CheckpointConfig(_Strict):
    """When a training's state is saved."""

    every_epochs: Positive | None
    every_steps: Positive | None
    every_seconds: Annotated[float, Ge(0)] | None
    best: bool


def _policy(value: Any) -> Any:
    if value not in ("continue", "stop") and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise PydanticCustomError("policy", "it should be continue, stop, or after how many failures to stop (>= 1)")
    return value


class SweepConfig(_Strict):
    """What a multirun may do."""

    limit: Positive
    resume: bool
    preview: bool
    on_failure: Annotated[Literal["continue", "stop"] | int, BeforeValidator(_policy)]
    parity: Positive | None


class TrackingConfig(_Strict):
    """The typed `tracking` group; only `mlflow` has the keys below the first."""

    name: Literal["none", "mlflow"]
    uri: str | None = None
    required: bool = False
    experiment: Name = "experiments"
    sweep_experiment: Name = "experiments-sweeps"
    wait_seconds: Annotated[float, Ge(0)] = 60


class WordsConfig(_Strict):
    """The same in each language."""

    en: str
    uz: str


class TutorialConfig(_Strict):
    """What a stage's file says of it; more may stand there for those who read it."""

    model_config = {**STRICT, "extra": "allow"}

    number: int
    title: WordsConfig
    changes: WordsConfig
    why: WordsConfig
    gain: WordsConfig
    prints: dict[str, Any]


class SweepingConfig(_Strict):
    """What a sweep goes by before any of its jobs is composed."""

    sweep: SweepConfig


class RootConfig(_Strict):
    """Everything of a run but the components' own arguments, which their signatures check."""

    dataset: dict[str, Any]
    model: dict[str, Any]
    loss: dict[str, Any]
    optim: dict[str, Any]
    loader: dict[str, Any]
    scheduler: dict[str, Any]
    transforms: dict[str, dict[str, Any]]
    metrics: dict[str, dict[str, Any]]
    callbacks: dict[str, dict[str, Any]]
    device: DeviceConfig
    tracking: TrackingConfig
    seed: Seed
    seeds: SeedsConfig
    epochs: Positive
    limit_batches: Positive | None
    max_grad_norm: Annotated[float, Gt(0)] | None
    deterministic: bool
    init_from: str | None
    evaluation: EvaluationConfig
    checkpoint: CheckpointConfig
    sweep: SweepConfig
    reuse: Literal["never", "finished"]
    name: Name | None
    figures: bool
    language: Literal["en", "uz"]
    output_root: Annotated[str, MinLen(1)]
    tutorial: dict[str, Any] | None
    inspect: InspectConfig


class LoaderSettings(_Strict):
    """What every loader's configuration has beside the loader's own arguments."""

    batch_size: Positive
    valid_batch_size: Positive
    shuffle: bool
    valid_shuffle: bool


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
        raise ConfigError(Fault("configuration", "interpolations that lead in a circle")) from None


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
        faults = [*device_faults(root.device), *_pair_faults(root)] or [*_ranks_faults(root)]
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


def channels_last(root: RootConfig) -> bool:
    """Whether the model's weights lie channels-last: as configured, else where the model says that it suits it.

    Never a choice at run time: another memory format gives other last bits.
    """
    chosen = root.device.channels_last
    return bool(register.model.get(root.model["name"]).facts.get("channels_last")) if chosen is None else chosen


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted leaf keys (`optim.lr`) to values; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        elif not isinstance(value, Mapping):
            flat[path] = value
    return flat


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
    if root.optim["name"] == "by_hand" and root.scheduler["name"] != "constant":
        yield Fault("scheduler", f"{root.scheduler['name']} steers an optimiser of torch; optim by_hand is none")
    if root.device.graph and root.inspect.breakpoint:
        yield Fault("device.graph", "a debugger cannot stop within a graph; device.graph=false with debug=step")
    model = register.model.get(root.model["name"])
    if root.loss["name"] == "nll_by_hand" and model.facts.get("output") != "log_probabilities":
        problem = f"nll_by_hand takes log-probabilities, model {model.name} returns logits; loss=cross_entropy fits"
        yield Fault("loss", problem)
    if problem := folder_fault(Path(root.output_root)):
        yield Fault("output_root", f"{problem}; everything a run leaves behind goes there")


def _ranks_faults(root: RootConfig) -> Iterator[Fault]:
    if ranks.world() > 1:
        yield from ranks.faults(root, pick(root.device), torch.cuda.device_count())


def _why_unresolved(error: OmegaConfBaseException) -> str:
    variable = re.search(r"Environment variable '(\w+)' not found", str(error))
    if variable:
        return f"the environment variable {variable[1]} is not set"
    if "Recursive" in str(error):
        return "its interpolation leads in a circle"
    return f"its interpolation cannot be resolved ({type(error).__name__})"
