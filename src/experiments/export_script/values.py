"""Evaluate what is known before a script runs: names, the data spec, and expressions made of them."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any

from experiments.errors import ConfigError, Fault


@dataclass(frozen=True)
class Text:
    """Code that replaces a name."""

    code: str


Known = Mapping[str, Any]


UNKNOWN: Any = object()  # the value of what is not known before the script runs
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Gt: lambda a, b: a > b,
    ast.Lt: lambda a, b: a < b,
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
        """Return the value of an expression; UNKNOWN where it is not known."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            value = self.known.get(node.id, UNKNOWN)
            return UNKNOWN if isinstance(value, Text) else value
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in self.spec_names:
            return getattr(self.spec, node.attr)
        if isinstance(node, ast.Tuple):
            values = [self.of(part) for part in node.elts]
            return UNKNOWN if UNKNOWN in values else tuple(values)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            value = self.of(node.value)
            return UNKNOWN if value is UNKNOWN else value[node.slice.value]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            value = self.of(node.operand)
            return UNKNOWN if value is UNKNOWN else not value
        if isinstance(node, ast.IfExp) and (test := self.of(node.test)) is not UNKNOWN:
            return self.of(node.body if test else node.orelse)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
            left, right = self.of(node.left), self.of(node.comparators[0])
            return UNKNOWN if UNKNOWN in (left, right) else COMPARISONS[type(node.ops[0])](left, right)
        return UNKNOWN


def literal(value: Any) -> str:
    """Return the Python code of a value; raise a ConfigError where there is none."""
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
