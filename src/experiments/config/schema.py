"""A factory's signature as a schema: pydantic, strict, with every fault in a user's words."""

from __future__ import annotations

import enum
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, TypeVar, Union

from pydantic import BaseModel, ConfigDict, Strict, ValidationError, create_model
from pydantic.functional_validators import AfterValidator, BeforeValidator, WrapValidator
from pydantic_core import ErrorDetails

from experiments.config.overrides import as_text
from experiments.config.registration import plain
from experiments.errors import ConfigError, Fault, suggestion

Model = TypeVar("Model", bound=BaseModel)

STRICT = ConfigDict(
    strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=()
)


def converted(
    factory: Callable[..., Any], names: Iterable[str], arguments: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return arguments as `factory` takes them: tuples, sets, paths and members of enumerations.

    Args:
        factory: a function or class.
        names: its parameters that can be configured.
        arguments: plain values by name.
        where: the key of the arguments in the configuration.

    Raises:
        ConfigError: with everything that is wrong with them.
    """
    try:
        schema = _schema(factory, tuple(names))
    except (NameError, AttributeError) as error:
        problem = f"the annotations of {factory.__qualname__} cannot be read: {error}"
        raise ConfigError(Fault(where, problem)) from error
    found = validated(schema, arguments, where)
    return {name: getattr(found, name) for name in arguments}


@functools.cache
def _schema(factory: Callable[..., Any], names: tuple[str, ...]) -> type[BaseModel]:
    signature = inspect.signature(factory).parameters
    parameters = {name: signature[name] for name in names}
    hints = _hints(factory, parameters)
    fields: dict[str, Any] = {name: (_from_yaml(hint), ...) for name, hint in hints.items()}
    for name, parameter in parameters.items():
        if (default := parameter.default) is not parameter.empty:
            allowed = WrapValidator(functools.partial(_or_default, default))
            fields[name] = (Annotated[fields[name][0], allowed], default)
    return create_model("Arguments", __config__=STRICT, **fields)


def _or_default(default: Any, value: Any, validate: Callable[[Any], Any]) -> Any:
    """Validate a value; a default is allowed though its annotation does not allow it, as None of `path: str = None`."""
    try:
        return validate(value)
    except ValidationError:
        if repr(value) == repr(plain(default)):  # 1, 1.0 and True differ
            return default
        raise


def _by_name(kind: type[enum.Enum], value: Any) -> Any:
    """Return a member by its name; anything else, a member's value too, as it is."""
    is_name = isinstance(value, str) and value in kind.__members__ and value not in [each.value for each in kind]
    return kind[value] if is_name else value


def _from_yaml(hint: Any) -> Any:
    """Return the type, but matched by its form in YAML: a list for a tuple or a set, text for a path."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return Annotated[(_from_yaml(inner[0]), *hint.__metadata__)]
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_from_yaml, inner))]  # noqa: UP007  # of any number
    if origin in (list, dict, tuple, set, frozenset):
        hint = origin[tuple(map(_from_yaml, inner))]
    kind = origin or hint
    if inspect.isclass(kind) and issubclass(kind, PurePath):
        return Annotated[hint, Strict(False), AfterValidator(lambda path: type(path)(os.path.expanduser(path)))]  # noqa: PTH111
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return Annotated[hint, Strict(False), BeforeValidator(functools.partial(_by_name, kind))]
    if inspect.isclass(kind) and issubclass(kind, tuple | set | frozenset):
        return Annotated[hint, Strict(False)]
    return hint


def _hints(factory: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Return the types of these parameters alone: others may name what is imported for a type checker only."""
    callee = inspect.unwrap(factory.__init__ if inspect.isclass(factory) else factory)
    annotations = {name: each.annotation for name, each in parameters.items()}
    for name, each in parameters.items():
        if each.annotation is each.empty:  # the type of a default that YAML has in another form, as a tuple
            annotations[name] = Any if type(plain(each.default)) is type(each.default) else type(each.default)
    read = types.SimpleNamespace(__annotations__=annotations)
    return typing.get_type_hints(read, globalns=getattr(callee, "__globals__", {}), include_extras=True)


def validated(schema: type[Model], values: Mapping[str, Any], where: str = "") -> Model:
    """Return values as their pydantic schema has them.

    Raises:
        ConfigError: with everything that is wrong with them.
    """
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        faults = [_fault(details, schema, where) for details in error.errors(include_url=False)]
        raise ConfigError(*faults) from None


def model_faults(schema: type[BaseModel], values: Mapping[str, Any], where: str = "") -> list[Fault]:
    """Return everything that is wrong with values for a pydantic schema."""
    try:
        validated(schema, values, where)
    except ConfigError as error:
        return list(error.faults)
    return []


def _fault(error: ErrorDetails, schema: type[BaseModel], where: str) -> Fault:
    # A key may be called like a union's branch (`int`, `weight-decay`) and is a key all the same.
    is_key = error["type"] in ("extra_forbidden", "missing")
    path = [str(part) for part in error["loc"] if is_key or not _is_union_branch(part)]
    key = ".".join([where, *path] if where else path)
    if error["type"] == "extra_forbidden":
        return Fault(key, f"unknown key{suggestion(path[-1], _fields_at(schema, path[:-1]))}")
    if error["type"] == "missing":
        return Fault(key, "a value is required")
    message = "it should be a path" if error["type"] == "path_type" else error["msg"][0].lower() + error["msg"][1:]
    given = error["input"]
    if error["type"] == "string_type" and isinstance(given, int | float):
        message += f"; as text: {as_text(f'{key}={given}')}"
    return Fault(key, f"{given!r} is not allowed: {message.replace('input should', 'it should')}")


def _is_union_branch(part: object) -> bool:
    """Return whether a part of an error's location is a type of a union (`int`, `constrained-str`), not a key."""
    return isinstance(part, str) and (part in ("int", "float", "str", "bool") or "[" in part or "-" in part)


def _fields_at(schema: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        annotation = schema.model_fields[part].annotation
        if not (inspect.isclass(annotation) and issubclass(annotation, BaseModel)):
            return []
        schema = annotation
    return list(schema.model_fields)
