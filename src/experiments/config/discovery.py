"""A user's own components: their presets are read from the source, and their files imported for a run.

The environment variable EXPERIMENTS_COMPONENTS lists files and modules separated as in PATH (`my_net.py`,
`my_package.nets`). Their decorated functions become options of the configuration groups: the signature and its
defaults are the preset. Hydra composes before torch is imported, so presets come from an `ast` scan of the source;
where it does not show them all, the file is imported. Those of registered components come from the registry.
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
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.config import hydra_options
from experiments.config.hydra_internals import ConfigStore
from experiments.config.registration import plain
from experiments.config.registry import Registry, register
from experiments.config.source_hash import is_installed
from experiments.errors import ConfigError, Fault, RegistrationError, UserError
from experiments.files import expanded

SETTING = "EXPERIMENTS_COMPONENTS"
OWN = "experiments_own"  # the package of their files
SHIPPED = Path(__file__).parents[1] / "conf"
# Shipped components without files in conf/, so that own ones may have their names.
YIELDING = Path(__file__).parents[1] / "components" / "metrics.py"

Definition = ast.FunctionDef | ast.ClassDef


class OwnFiles(Loader):
    """Finds `experiments_own.NAME`, a file of the setting, for `import_module` and for whatever unpickles from it.

    A spawned worker process imports by that name what its dataset needs; it has inherited the setting.
    Where own code imports such a file by its own name, both names are one module.
    """

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return the spec of such a module; None for any other."""
        files = [entry for entry in _entries() if entry.endswith(".py")]
        if name.startswith(f"{OWN}.") or name in [Path(file).stem for file in files]:
            for path in map(_source, files):
                if _module_name(path) == name:
                    return importlib.util.spec_from_file_location(name, path)
                if path.stem == name and (spec := PathFinder.find_spec(name)) and _is_file(spec.origin, path):
                    return ModuleSpec(name, self, origin=_module_name(path))
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Replace the module of a file's own name by the one that it is called here."""
        assert module.__spec__ is not None
        sys.modules[module.__name__] = import_module(str(module.__spec__.origin))


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
    scanned = [_scan(path) for path in own_files()]
    if None in scanned:
        load()
    shipped = {file.stem for file in (SHIPPED / "metrics").iterdir()}
    yield from (preset for preset in _scan(YIELDING) or () if preset[1] not in shipped)
    yield from chain.from_iterable(filter(None, scanned))
    for registry in register:
        for name in registry.names:
            if not registry.get(name).factory.__module__.startswith("experiments."):
                yield registry, name, registry.preset(name)


def _source(entry: str) -> Path:
    if entry.endswith(".py"):
        path = expanded(entry).resolve()
        if path.is_file():
            if str(path.parent) not in sys.path:
                sys.path.append(str(path.parent))  # it may import its neighbours
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
    if any(_is_file(getattr(module, "__file__", None), path) for module in list(sys.modules.values())):
        return
    name = _module_name(path) if entry.endswith(".py") else entry
    problems = Registry.refused = list[Exception]()
    try:
        import_module(name)
    except Exception as error:  # noqa: BLE001  # own code may raise anything
        problems.append(error)
    finally:
        Registry.refused = None
        if problems or name not in sys.modules:
            sys.modules.pop(name, None)
            for registry in register:
                registry.forget_unloaded()
    if problems:
        raise ConfigError(*(_broken(str(path), each) for each in problems)) from problems[-1]


def _broken(place: str, error: Exception) -> Fault:
    """Return the fault of a source that fails while it is imported; HYDRA_FULL_ERROR=1 shows the traceback."""
    if isinstance(error, RegistrationError) and place in str(error):
        return Fault(SETTING, str(error))
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == place]
    where = f"{place}:{lines[-1]}" if lines else place
    problem = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return Fault(SETTING, f"{where} cannot be imported: {problem}")


def _is_file(origin: str | None, path: Path) -> bool:
    return origin is not None and Path(origin).resolve() == path


def _module_name(path: Path) -> str:
    stem, digest = re.sub(r"\W", "_", path.stem), hashlib.sha256(str(path).encode()).hexdigest()
    return f"{OWN}.{stem}_{digest[:8]}"


def _scan(path: Path) -> list[tuple[Registry, str, dict[str, Any]]] | None:
    """Return the presets of a file's components; None where only its import has them all."""
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes(), filename=str(path))))
    except SyntaxError as error:
        raise ConfigError(Fault(SETTING, f"{path}:{error.lineno} is not Python: {error.msg}")) from None
    found = []
    for node in (node for node in nodes if isinstance(node, Definition)):
        for decorator in node.decorator_list:
            if registered := _registration(decorator):
                registry, name, metadata = registered
                if SHIPPED.parent not in path.parents and (SHIPPED / registry.group / f"{name}.yaml").exists():
                    problem = f"{registry.kind} '{name}' is shipped; register yours under another name, as 'my_{name}'"
                    raise ConfigError(Fault(SETTING, f"{path}:{node.lineno}: {problem}"))
                defaults = _defaults(node, registry, metadata) if len(node.decorator_list) == 1 else None
                if defaults is None:
                    return None
                found.append((registry, name, registry.as_preset(name, defaults)))
    complete = sum(map(_names_register, nodes)) == len(found) and not any(map(_imports_own, nodes))
    return found if complete else None


def _registration(decorator: ast.expr) -> tuple[Registry, str, dict[str, Any]] | None:
    """Return the registry, name and metadata in `@register.<kind>("name")`, also of `experiments.register`."""
    if not (isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.args):
        return None
    owner, name = ast.unparse(decorator.func.value), decorator.args[0]
    if owner.split(".")[-1] != "register" or not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return None
    kind = decorator.func.attr
    metadata = {str(each.arg): each.value.value for each in decorator.keywords if isinstance(each.value, ast.Constant)}
    return (vars(register)[kind], name.value, metadata) if kind in vars(register) else None


def _defaults(node: Definition, registry: Registry, metadata: dict[str, Any]) -> dict[str, Any] | None:
    """Return the defaults of a definition's arguments; None where they are not literals, or in a base class."""
    function, of_class = node, isinstance(node, ast.ClassDef)
    if isinstance(node, ast.ClassDef):
        inits = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        if not inits:
            return None
        function = inits[0]
    assert isinstance(function, ast.FunctionDef)
    positional = [*function.args.posonlyargs, *function.args.args]
    names = [each.arg for each in positional[of_class:]]
    skip = of_class + len(registry.passed(names, metadata, of_class=of_class))
    missing: list[ast.expr | None] = [None] * (len(positional) - len(function.args.defaults))
    pairs = list(zip(positional, [*missing, *function.args.defaults], strict=True))[skip:]
    pairs += list(zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True))
    try:
        return {argument.arg: "???" if value is None else plain(ast.literal_eval(value)) for argument, value in pairs}
    except ValueError:
        return None


def _names_register(node: ast.AST) -> bool:
    """Return whether a node names the register, or imports it under another name."""
    if isinstance(node, ast.alias):
        return node.name == "register" and node.asname is not None
    return "register" in (getattr(node, "id", None), getattr(node, "attr", None))


def _imports_own(node: ast.AST) -> bool:
    """Return whether a node imports a module that is not installed: it may register components too."""
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return True
        modules = [str(node.module)]
    tops = {module.partition(".")[0] for module in modules} - {"experiments", *sys.stdlib_module_names}
    specs = filter(None, map(importlib.util.find_spec, tops))
    places = [place for spec in specs for place in (spec.origin, *(spec.submodule_search_locations or ()))]
    return any(place and not is_installed(Path(place)) for place in places)
