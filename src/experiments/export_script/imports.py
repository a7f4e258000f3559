"""Where a name of a module comes from, and the import that brings it."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from types import ModuleType
from typing import Any


def home(name: str, value: Any, module: ModuleType | None) -> ModuleType | None:
    """The module that something is of, or that a module has its name from; None where neither is known."""
    if isinstance(value, ModuleType):
        return value
    own = getattr(value, "__module__", None) if inspect.isclass(value) or inspect.isroutine(value) else None
    statement = "" if module is None else _imports(module).get(name, "")
    imported = statement.split()[1] if statement.startswith("from ") else ""
    return sys.modules.get(own or "") or sys.modules.get(imported)


def import_of(name: str, value: Any, module: ModuleType | None) -> str:
    """The statement that brings a name, as its module has it."""
    statement = _imports(module).get(name) if module is not None else None
    if statement is not None:
        return statement
    if isinstance(value, ModuleType):
        return f"import {value.__name__}" if value.__name__ == name else f"import {value.__name__} as {name}"
    alias = "" if value.__name__ == name else f" as {name}"
    return f"from {value.__module__} import {value.__name__}{alias}"


@functools.cache
def _imports(module: ModuleType) -> dict[str, str]:
    """Import statements of a module, by the name that each binds."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError):
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name: f"import {ast.unparse(alias)}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {a.asname or a.name: f"from {node.module} import {ast.unparse(a)}" for a in node.names}
    return found
