"""The rules of a registration: what can be a component's name, and which signature can be a schema."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

LONGEST_NAME = 100
PLAIN = "a default is a number, text, True, None, a path, a member of an enumeration, or a list or dict of such"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def name_fault(name: object) -> str | None:
    """Return why something cannot be a component's name, and so part of file names; None where it can."""
    if not isinstance(name, str) or not name:
        return 'is not a name; write @register.model("name")'
    if CONTROL.search(name) or any(part in name for part in ("/", "\\", "..")):
        return "is not a name: slashes, '..' and control characters are not allowed"
    return f"is too long for a name: at most {LONGEST_NAME} characters" if len(name) > LONGEST_NAME else None


def signature_fault(factory: Callable[..., Any], takes: Sequence[str], reserved: Sequence[str]) -> str | None:
    """Return why a factory cannot be registered; None where it can.

    Args:
        factory: a function or class.
        takes: the names of the values that the run passes first.
        reserved: the keys beside its arguments in the configuration, `name` and the run's own.
    """
    parameters = list(inspect.signature(factory).parameters.values())
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    variadic = [f"{stars[p.kind]}{p.name}" for p in parameters if p.kind in stars]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if variadic:
        return f"takes {', '.join(variadic)}; its parameters are its schema, so write each one out"
    if len(positional) < len(takes):
        given = f"takes {len(positional)} positional parameters; the run passes {len(takes)}"
        return f"{given}: {', '.join(takes)}; write {'them' if len(takes) > 1 else 'it'} first"
    for parameter in parameters[len(takes) :]:
        if parameter.name in (*reserved, "defaults"):
            return f"has an argument called {parameter.name}, a key that the configuration itself uses here; rename it"
        try:
            plain(parameter.default)
        except ValueError as error:
            return f"has the default {error} of {parameter.name!r}, which YAML cannot hold; {PLAIN}"
    return None


def plain(value: Any) -> Any:
    """Return a parameter's default as YAML holds it; a required one as it is.

    Raises:
        ValueError: it cannot.
    """
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, int | float | str) else value.name
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=repr)
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    if value is None or value is inspect.Parameter.empty or type(value) in (bool, int, float, str, bytes):
        return value
    raise ValueError(repr(value))
