"""A factory's signature as a schema: pydantic, strict, with every fault in a user's words."""

from __future__ import annotations

import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Union

from pydantic import BaseModel, ConfigDict, Strict, ValidationError, create_model
from pydantic_core import ErrorDetails

from experiments.errors import Fault, suggestion

STRICT = ConfigDict(
    strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=()
)


def argument_faults(
    factory: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    arguments: Mapping[str, Any],
    where: str,
) -> list[Fault]:
    """What is wrong with `arguments` for `factory`, each fault under the key `where.argument`."""
    try:
        schema = _schema(factory, tuple(parameters))
    except (NameError, AttributeError) as error:
        return [Fault(where, f"the annotations of {factory.__qualname__} cannot be read: {error}")]
    return model_faults(schema, arguments, where)


def converted(
    factory: Callable[..., Any], parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments without a fault as `factory` takes them: tuples, sets, paths and members of enumerations."""
    found = _schema(factory, tuple(parameters)).model_validate(dict(arguments))
    return {name: getattr(found, name) for name in arguments}


@functools.cache
def _schema(factory: Callable[..., Any], names: tuple[str, ...]) -> type[BaseModel]:
    signature = inspect.signature(factory).parameters
    parameters = {name: signature[name] for name in names}
    hints = _hints(factory, parameters)
    fields: dict[str, Any] = {
        name: (_from_yaml(hints[name]), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in parameters.items()
    }
    return create_model("Arguments", __config__=STRICT, **fields)


def _from_yaml(hint: Any) -> Any:
    """The same type, but met by what YAML has for it: a list for a tuple or a set, text for a path."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return Annotated[(_from_yaml(inner[0]), *hint.__metadata__)]
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_from_yaml, inner))]  # noqa: UP007  # of as many as there are
    if origin in (list, dict, tuple, set, frozenset):
        hint = origin[tuple(map(_from_yaml, inner))]
    kind = origin or hint
    if inspect.isclass(kind) and issubclass(kind, tuple | set | frozenset | PurePath | enum.Enum):
        return Annotated[hint, Strict(False)]
    return hint


def _hints(factory: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The types of these parameters alone: others may name what is imported for a type checker only."""
    callee = inspect.unwrap(factory.__init__ if inspect.isclass(factory) else factory)
    read = types.SimpleNamespace(
        __annotations__={name: parameters[name].annotation for name in parameters if _annotated(parameters[name])}
    )
    found = typing.get_type_hints(read, globalns=getattr(callee, "__globals__", {}), include_extras=True)
    return {name: found.get(name, Any) for name in parameters}


def _annotated(parameter: inspect.Parameter) -> bool:
    return parameter.annotation is not parameter.empty


def model_faults(schema: type[BaseModel], values: Mapping[str, Any], where: str = "") -> list[Fault]:
    """What is wrong with `values` for a pydantic schema."""
    try:
        schema.model_validate(dict(values))
    except ValidationError as error:
        return [_fault(details, schema, where) for details in error.errors(include_url=False)]
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
    message = error["msg"][0].lower() + error["msg"][1:]
    return Fault(key, f"{error['input']!r} is not allowed: {message.replace('input should', 'it should')}")


def _is_union_branch(part: object) -> bool:
    """Whether a part of an error's location names a type of a union (`int`, `constrained-str`), not a key."""
    return isinstance(part, str) and (part in ("int", "float", "str", "bool") or "[" in part or "-" in part)


def _fields_at(schema: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        annotation = schema.model_fields[part].annotation
        if not (inspect.isclass(annotation) and issubclass(annotation, BaseModel)):
            return []
        schema = annotation
    return list(schema.model_fields)
