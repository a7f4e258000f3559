"""Evaluate what is known before a script runs: names, the data spec, and expressions made of them."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any

from experiments.errors import ConfigError, Fault


@dataclass(frozen=True)
class Text:
    """Code that replaces a name, or is a value in a structure."""

    code: str

    def __repr__(self) -> str:
        return self.code


class _UnknownError(Exception):
    """Raised for an expression whose value is not known before the script runs."""


Known = Mapping[str, Any]
UNKNOWN: Any = object()  # the value of such an expression
COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
}


class Values:
    """The values of expressions, as far as they are known.

    Args:
        known: values by name; a `Text` is not a value.
        spec: the data spec.
        spec_names: the names that hold it.
    """

    def __init__(self, known: Known, spec: Any, spec_names: Sequence[str]) -> None:
        self.known, self.spec, self.spec_names = known, spec, spec_names

    def of(self, node: ast.expr) -> Any:
        """Return the value of an expression; UNKNOWN where it is not known, or has an error."""
        try:
            return self._known(node)
        except (_UnknownError, AttributeError, LookupError, TypeError):
            return UNKNOWN

    def _known(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name in self.known and not isinstance(self.known[name], Text):
                return self.known[name]
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in self.spec_names:
                return getattr(self.spec, attribute)
            case ast.Tuple(elts=parts):
                return tuple(map(self._known, parts))
            case ast.Subscript(value=whole, slice=ast.Constant(value=index)):
                return self._known(whole)[index]
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self._known(operand)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._known(body if self._known(test) else orelse)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in COMPARISONS:
                return COMPARISONS[type(op)](self._known(left), self._known(right))
        raise _UnknownError


def literal(value: Any) -> str:
    """Return the Python code of a value; raise a ConfigError where there is none."""
    if isinstance(value, Text):
        return value.code
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, Path):
        return f"Path({literal(str(value))})"
    if type(value) is float and not math.isfinite(value):
        return f'float("{value}")'
    if not is_plain(value):
        problem = f"{value!r:.80} cannot be written into a script as a value; numbers, text, lists and dicts can"
        raise ConfigError(Fault("export_script", problem))
    if isinstance(value, str) and value.isprintable() and not set('"\\') & set(value):
        return f'"{value}"'
    return repr(value)


def is_plain(value: Any) -> bool:
    """Whether the repr of a value is its code; that of a derived type (numpy has some) may not be."""
    if type(value) is dict:
        return all(map(is_plain, [*value.keys(), *value.values()]))
    if type(value) in (list, tuple, set, frozenset):
        return all(map(is_plain, value))
    return type(value) in (bool, int, str, bytes, NoneType) or (type(value) is float and math.isfinite(value))
