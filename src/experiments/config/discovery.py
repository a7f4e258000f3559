"""A user's own components: their presets are read from the source, and their files imported for a run.

The environment variable EXPERIMENTS_COMPONENTS lists files and modules separated as in PATH (`my_net.py`,
`my_package.nets`). Their decorated functions become options of the configuration groups: the signature and its
defaults are the preset. Hydra composes before torch is imported, so the presets come from an `ast` scan of the source;
those of components that are already registered, in a notebook say, come from the registry.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from experiments.config import hydra_options
from experiments.config.hydra_internals import ConfigStore
from experiments.config.registry import Registry, register
from experiments.errors import ConfigError, Fault, UserError
from experiments.files import expanded

SETTING = "EXPERIMENTS_COMPONENTS"
OWN = "experiments_own"  # the package of their files

Definition = ast.FunctionDef | ast.ClassDef


class OwnFiles:
    """Finds `experiments_own.NAME`, a file of the setting, for `import_module` and for whatever unpickles from it.

    A spawned worker process imports by that name what its dataset needs; it has inherited the setting.
    """

    @staticmethod
    def find_spec(name: str, *_: object) -> ModuleSpec | None:
        """Return the spec of such a module; None for any other."""
        if name.startswith(f"{OWN}."):
            for path in (_source(entry) for entry in _entries() if entry.endswith(".py")):
                if _module_name(path) == name:
                    return importlib.util.spec_from_file_location(name, path)
        return None


def own_files() -> list[Path]:
    """Return the source files of the setting.

    Raises:
        ConfigError: one of them is not found, or its package cannot be imported.
    """
    return [_source(entry) for entry in _entries()]


def register_with_hydra() -> None:
    """Store our options and every own component in Hydra, so that it can compose them."""
    hydra_options.store()
    store = ConfigStore.instance()
    for registry, name, preset in _presets():
        store.store(group=registry.group, name=name, node=preset, provider="own")


def load() -> None:
    """Import the product's components and the user's own, which registers them.

    Raises:
        ConfigError: one of the user's own cannot be imported.
    """
    import_module("experiments.components")
    for entry in _entries():
        _import(entry)


def _entries() -> list[str]:
    return [entry.strip() for entry in os.environ.get(SETTING, "").split(os.pathsep) if entry.strip()]


def _presets() -> Iterator[tuple[Registry, str, dict[str, Any]]]:
    for path in own_files():
        yield from _scan(path)
    for registry in register:
        for name in registry.names:
            if not registry.get(name).factory.__module__.startswith("experiments."):
                yield registry, name, registry.preset(name)


def _source(entry: str) -> Path:
    if entry.endswith(".py"):
        path = expanded(entry).resolve()
        if path.is_file():
            return path
        raise ConfigError(Fault(SETTING, f"there is no file {path}"))
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(entry)
    except ModuleNotFoundError as error:
        # A package above it was imported; a module that it lacks is another fault.
        if not f"{entry}.".startswith(f"{error.name}."):
            raise ConfigError(_broken(entry, error)) from error
        spec = None
    except Exception as error:
        raise ConfigError(_broken(entry, error)) from error
    if spec is None or spec.origin is None:
        raise ConfigError(Fault(SETTING, f"there is no module '{entry}' (a file is named with its .py)"))
    if not spec.origin.endswith(".py"):
        raise ConfigError(Fault(SETTING, f"module '{entry}' is not Python source ({spec.origin})"))
    return Path(spec.origin)


def _import(entry: str) -> None:
    path = _source(entry)
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) and Path(str(module.__file__)).resolve() == path:
            return
    name = _module_name(path) if entry.endswith(".py") else entry
    try:
        import_module(name)
    except BaseException as error:
        for registry in register:
            registry.forget(name)
        if isinstance(error, Exception):
            raise ConfigError(_broken(str(path), error)) from error
        raise


def _broken(place: str, error: Exception) -> Fault:
    """Return the fault of a source that fails while it is imported; HYDRA_FULL_ERROR=1 shows the traceback."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == place]
    where = f"{place}:{lines[-1]}" if lines else place
    problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return Fault(SETTING, f"{where} cannot be imported: {problem}")


def _module_name(path: Path) -> str:
    stem, digest = re.sub(r"\W", "_", path.stem), hashlib.sha256(str(path).encode()).hexdigest()
    return f"{OWN}.{stem}_{digest[:8]}"


def _scan(path: Path) -> Iterator[tuple[Registry, str, dict[str, Any]]]:
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise ConfigError(Fault(SETTING, f"{path}:{error.lineno} is not Python: {error.msg}")) from None
    for node in ast.walk(tree):
        if isinstance(node, Definition):
            for decorator in node.decorator_list:
                found = _registration(decorator)
                if found:
                    registry, name = found
                    assert isinstance(decorator, ast.Call)
                    pairs = any(keyword.arg == "pairs" for keyword in decorator.keywords)
                    yield registry, name, registry.as_preset(name, _defaults(node, registry, path, takes_pairs=pairs))


def _registration(decorator: ast.expr) -> tuple[Registry, str] | None:
    """Return the registry and name in `@register.<kind>("name")` or `@experiments.register.<kind>("name")`."""
    if not (isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.args):
        return None
    owner, name = ast.unparse(decorator.func.value), decorator.args[0]
    if owner.split(".")[-1] != "register" or not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return None
    kind = decorator.func.attr
    return (vars(register)[kind], name.value) if kind in vars(register) else None


def _defaults(node: Definition, registry: Registry, path: Path, *, takes_pairs: bool) -> dict[str, Any]:
    function, skip = node, 0
    if isinstance(node, ast.ClassDef):
        inits = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        if not inits:
            return {}
        function, skip = inits[0], 1
    assert isinstance(function, ast.FunctionDef)
    positional = [*function.args.posonlyargs, *function.args.args]
    names, of_class = [each.arg for each in positional[skip:]], isinstance(node, ast.ClassDef)
    skip += len(registry.passed(names, of_class=of_class, pairs=takes_pairs))
    missing: list[ast.expr | None] = [None] * (len(positional) - len(function.args.defaults))
    pairs = list(zip(positional, [*missing, *function.args.defaults], strict=True))[skip:]
    pairs += list(zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True))
    return {argument.arg: _literal(default, argument, path) for argument, default in pairs}


def _literal(default: ast.expr | None, argument: ast.arg, path: Path) -> Any:
    if default is None:
        return "???"
    try:
        return ast.literal_eval(default)
    except ValueError:
        problem = f"the default of '{argument.arg}' must be a literal (a number, text, True, None, a list)"
        raise ConfigError(Fault(f"{path}:{default.lineno}", f"{problem}, not {ast.unparse(default)}")) from None
