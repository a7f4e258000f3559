"""The typed root of the configuration: every key except the components' own arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MaxLen, MinLen
from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from experiments.config.device import DeviceConfig
from experiments.config.registration import CONTROL
from experiments.config.registry import register
from experiments.config.schema import STRICT

Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Positive = Annotated[int, Ge(1)]


def _one_line(name: str) -> str:
    if CONTROL.search(name):
        raise PydanticCustomError("name", "it should have no line breaks or other control characters")
    return name


def _pattern(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise PydanticCustomError("pattern", "it should be a name of tensors or a pattern; a number as text: ['0.1']")
    return str(value)


Pattern = Annotated[str, BeforeValidator(_pattern)]  # of the names of tensors; the first module of a sequence is 0
# Of a run or an experiment, in MLflow too.
Name = Annotated[str, MinLen(1), MaxLen(250), AfterValidator(_one_line)]


def _own_tags(tags: dict[str, Any]) -> dict[str, Any]:
    for name, value in flatten(tags).items():
        reserved = name.startswith(("mlflow.", "experiments.", "best/")) or name in (*RootConfig.model_fields, *PRESETS)
        if reserved:
            problem = "the tag {name} is set by the framework; choose another name"
        elif not TAG_NAME.fullmatch(name) or value is None or len(str(value)) > 5000:
            problem = (
                "the tag {name} should have a text of at most 5000 characters, and a name of letters, digits, _ - ."
            )
        else:
            continue
        raise PydanticCustomError("tag", problem, {"name": repr(name)})
    return tags


PRESETS = ("stage", "experiment", "debug")  # groups of presets; a run's chosen options are tags
TAG_NAME = re.compile(r"[\w\-. /:]{1,250}")  # as MLflow allows
OwnTags = Annotated[dict[str, Any], AfterValidator(_own_tags)]


class _Strict(BaseModel):
    model_config = STRICT


class SeedsConfig(_Strict):
    """The seed of each random stream; None for one derived from `seed`."""

    init: Seed | None
    data_order: Seed | None
    noise: Seed | None


class EvaluationConfig(_Strict):
    """How a validation mean is computed."""

    mean: Literal["samples", "batches"]


class InspectConfig(_Strict):
    """The switches of the debug overlays."""

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
    """The typed `tracking` group; only `mlflow` has the keys below the first two."""

    name: Literal["none", "mlflow"]
    patch: bool = True
    uri: str | None = None
    required: bool = False
    experiment: Name | None = None
    sweep_experiment: Name = "experiments-sweeps"
    wait_seconds: Annotated[float, Ge(0)] = 60
    model: Literal["none", "best", "last"] = "none"
    system_metrics: bool | None = None


class WordsConfig(_Strict):
    """A text in each language."""

    en: str
    uz: str


class TutorialConfig(_Strict):
    """The words of a stage's file, which may hold more keys for its readers."""

    model_config = {**STRICT, "extra": "allow"}

    number: int
    title: WordsConfig
    changes: WordsConfig
    why: WordsConfig
    gain: WordsConfig
    prints: dict[str, Any]


class SweepingConfig(_Strict):
    """The settings of a sweep before any of its jobs is composed."""

    sweep: SweepConfig


class RootConfig(_Strict):
    """All settings of a run; the signatures of its components check their arguments."""

    dataset: dict[str, Any]
    model: dict[str, Any]
    loss: dict[str, Any]
    step: dict[str, Any]
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
    pause_after: Positive | None
    limit_batches: Positive | None
    max_grad_norm: Annotated[float, Gt(0)] | None
    accumulate: Positive = 1
    deterministic: bool
    init_from: str | None
    init_only: Annotated[list[Pattern], MinLen(1)] | None
    init_match: Literal["strict", "shapes"]
    freeze: list[Pattern]
    evaluation: EvaluationConfig
    checkpoint: CheckpointConfig
    sweep: SweepConfig
    reuse: Literal["never", "finished"]
    doctor: Annotated[Literal["off", "warn", "fail"], BeforeValidator(lambda value: value or "off")] = "warn"
    name: Name | None
    tags: OwnTags
    figures: bool
    describe: bool
    language: Literal["en", "uz"]
    output_root: Annotated[str, MinLen(1)]
    tutorial: dict[str, Any] | None
    inspect: InspectConfig


class LoaderSettings(_Strict):
    """The settings of every loader beside its own arguments."""

    batch_size: Positive
    valid_batch_size: Positive
    shuffle: bool
    valid_shuffle: bool
    drop_last: bool
    draw: Literal["balanced"] | None


class OptimSettings(_Strict):
    """The settings of every optimiser beside its own arguments."""

    groups: Literal["no_decay"] | dict[str, dict[str, Any]] | None = None


def channels_last(root: RootConfig) -> bool:
    """Return whether the model's weights are stored channels-last: as configured, else as the model declares.

    Never decided at run time: another memory format gives other last bits.
    """
    chosen = root.device.channels_last
    return bool(register.model.get(root.model["name"]).metadata.get("channels_last")) if chosen is None else chosen


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return values by dotted leaf keys (`optim.lr`); lists stay whole, a mapping by patterns is one of pairs."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if not isinstance(value, Mapping):
            flat[path] = value
        elif any(set("*?[") & set(str(part)) for part in value):  # the first match counts, so their order does
            flat[path] = [[pattern, one] for pattern, one in value.items()]
        else:
            flat |= flatten(value, f"{path}.")
    return flat
