"""The presets of own components as their source has them, so that neither the file nor torch is imported for them."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.config.registry import Registry, register
from experiments.config.source_hash import is_installed
from experiments.errors import ConfigError, Fault

Definition = ast.FunctionDef | ast.ClassDef
Preset = tuple[Registry, str, dict[str, Any]]


def presets(path: Path, setting: str) -> list[Preset] | None:
    """Return the presets of a file's components; None where only its import has them all.

    Raises:
        ConfigError: it is not Python; the fault's key is `setting`.
    """
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise ConfigError(Fault(setting, f"{path}:{error.lineno} is not Python: {error.msg}")) from None
    nodes = list(ast.walk(tree))
    definitions = [node for node in nodes if isinstance(node, Definition)]
    try:
        found = [preset for node in definitions for preset in _presets(node)]
    except ValueError:
        return None
    complete = sum(map(_names_register, nodes)) == len(found) and not any(map(_imports_own, nodes))
    return found if complete else None


def _presets(node: Definition) -> Iterator[Preset]:
    """Read the registrations of one definition.

    Raises:
        ValueError: they cannot be read: a default is not a literal, or the signature may be another definition's.
    """
    registrations = list(filter(None, map(_registration, node.decorator_list)))
    if registrations and len(registrations) < len(node.decorator_list):
        raise ValueError(node.name)
    for registry, name in registrations:
        yield registry, name, registry.as_preset(name, _defaults(node, registry))


def _registration(decorator: ast.expr) -> tuple[Registry, str] | None:
    """Return the registry and name in `@register.<kind>("name")` or `@experiments.register.<kind>("name")`."""
    if not (isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.args):
        return None
    owner, name = ast.unparse(decorator.func.value), decorator.args[0]
    if owner.split(".")[-1] != "register" or not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return None
    kind = decorator.func.attr
    return (vars(register)[kind], name.value) if kind in vars(register) else None


def _defaults(node: Definition, registry: Registry) -> dict[str, Any]:
    function, skip = node, len(registry.takes)
    if isinstance(node, ast.ClassDef):
        inits = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        if not inits:
            raise ValueError(node.name)
        function, skip = inits[0], skip + 1
    assert isinstance(function, ast.FunctionDef)
    positional = [*function.args.posonlyargs, *function.args.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(function.args.defaults))
    pairs = list(zip(positional, [*missing, *function.args.defaults], strict=True))[skip:]
    pairs += list(zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True))
    return {argument.arg: "???" if value is None else ast.literal_eval(value) for argument, value in pairs}


def _names_register(node: ast.AST) -> bool:
    """Return whether a node names the register, or imports it under another name."""
    if isinstance(node, ast.alias):
        return node.name == "register" and node.asname is not None
    return "register" in (getattr(node, "id", None), getattr(node, "attr", None))


def _imports_own(node: ast.AST) -> bool:
    """Return whether a node imports a module that is not installed: it may register components too."""
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom):
        modules = [node.module or ""]
    if isinstance(node, ast.ImportFrom) and node.level:
        return True
    for top in {module.partition(".")[0] for module in modules} - {"experiments", *sys.stdlib_module_names}:
        spec = importlib.util.find_spec(top)
        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
        if any(place and not is_installed(Path(place)) for place in places):
            return True
    return False
