"""The source, names and imports of a function or class, as its module has them."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from types import ModuleType
from typing import Any

from experiments.errors import ConfigError, Fault


def source_of(factory: Any) -> str:
    """Return the text of a definition.

    Raises:
        ConfigError: it has no file, since it was typed into a shell; or it is a lambda.
    """
    if getattr(factory, "__name__", "") == "<lambda>":
        problem = f"a lambda in {factory.__module__} has no definition that a script could have; write it as a def"
        raise ConfigError(Fault("export_script", problem))
    try:
        return textwrap.dedent(inspect.getsource(factory))
    except (OSError, TypeError):
        name = getattr(factory, "__qualname__", repr(factory))
        problem = "its source cannot be found (was it typed into a shell?); a script needs it in a file or a notebook"
        raise ConfigError(Fault(name, problem)) from None


def module_of(factory: Any) -> ModuleType | None:
    """Return the module that defines it; None where that is not imported."""
    return sys.modules.get(factory.__module__)


def globals_of(factory: Any) -> dict[str, Any]:
    """Return the names of its module."""
    module = module_of(factory)
    return dict(vars(module)) if module is not None else {}


def names_of(factory: Any) -> dict[str, Any]:
    """Return the names of its module, and those that it closes over."""
    made = factory.__init__ if inspect.isclass(factory) else factory
    closed = inspect.getclosurevars(made).nonlocals if inspect.isfunction(made) else {}
    return globals_of(factory) | dict(closed)


def resolved(factory: Any, dotted: str) -> Any:
    """Return what a dotted name means in its module; None where it means nothing."""
    first, *rest = dotted.split(".")
    found = globals_of(factory).get(first)
    for part in rest:
        found = getattr(found, part, None)
    return found


def default_of(function: Any, keyword: str) -> Any:
    """Return the default of a function's parameter; `inspect.Parameter.empty` where it has none."""
    try:
        parameter = inspect.signature(function).parameters.get(keyword)
    except (TypeError, ValueError):  # written in C, or not a function
        return inspect.Parameter.empty
    return inspect.Parameter.empty if parameter is None else parameter.default


def spec_names(factory: Any) -> list[str]:
    """Return the parameters that hold a data spec, by their annotation."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return []
    return [parameter.name for parameter in parameters if "DataSpec" in str(parameter.annotation)]


def drops(function: Any, parameter: int | str) -> bool:
    """Whether a definition in a script is without a parameter, by position or name: it is annotated as a data spec."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return False
    name = parameter if isinstance(parameter, str) else "".join(names[parameter : parameter + 1])
    return name in spec_names(function)


def home(name: str, value: Any, module: ModuleType | None) -> ModuleType | None:
    """Return the module that something is of, or that a module has its name from; None where neither is known."""
    if isinstance(value, ModuleType):
        return value
    own = getattr(value, "__module__", None) if inspect.isclass(value) or inspect.isroutine(value) else None
    statement = "" if module is None else _imports(module).get(name, "")
    imported = statement.split()[1] if statement.startswith("from ") else ""
    return sys.modules.get(own or "") or sys.modules.get(imported)


def import_of(name: str, value: Any, module: ModuleType | None, chosen: str) -> str:
    """Return the statement that imports a name, as its module has it, under the chosen one."""
    statement = _imports(module).get(name) if module is not None else None
    if chosen != name:
        return f"{(statement or import_of(name, value, module, name)).partition(' as ')[0]} as {chosen}"
    if statement is not None:
        return statement
    if isinstance(value, ModuleType):
        return f"import {value.__name__}" if value.__name__ == name else f"import {value.__name__} as {name}"
    alias = "" if value.__name__ == name else f" as {name}"
    return f"from {value.__module__} import {value.__name__}{alias}"


@functools.cache
def _imports(module: ModuleType) -> dict[str, str]:
    """Return the import statements of a module, by the name that each binds."""
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
