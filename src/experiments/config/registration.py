"""The rules of a registration: what can be a component's name, and which signature can be a schema."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

LONGEST_NAME = 100
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def name_fault(name: object) -> str | None:
    """Return why something cannot be a component's name, and so part of file names; None where it can."""
    if not isinstance(name, str) or not name:
        return 'is not a name; write @register.model("name")'
    if CONTROL.search(name) or any(part in name for part in ("/", "\\", "..")):
        return "is not a name: slashes, '..' and control characters are not allowed"
    return f"is too long for a name: at most {LONGEST_NAME} characters" if len(name) > LONGEST_NAME else None


def signature_fault(factory: Callable[..., Any], takes: Sequence[str], *, named: bool) -> str | None:
    """Return why a factory cannot be registered; None where it can.

    Args:
        factory: a function or class.
        takes: the names of the values that the run passes first.
        named: whether the key `name` is beside its arguments in the configuration.
    """
    parameters = list(inspect.signature(factory).parameters.values())
    variadic = [p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if variadic:
        return f"takes *{variadic[0]}; its parameters are its schema, so write each one out"
    if named and "name" in [p.name for p in parameters[len(takes) :]]:
        return "has an argument called name, the key that holds the component's own name; rename it"
    if len(positional) < len(takes):
        return f"takes {len(positional)} positional parameters; the run passes {len(takes)}: {', '.join(takes)}"
    return None
