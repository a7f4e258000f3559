"""The definitions and imports that a script needs, found from the components' own source."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from experiments.config.registry import Component
from experiments.config.source_hash import is_own
from experiments.data.splits import DataSpec
from experiments.errors import ConfigError, Fault, UserError
from experiments.export_script import imports
from experiments.export_script.rewriting import Rewriter
from experiments.export_script.values import Known, Text, is_plain, literal
from experiments.training import describe

# What a script calls its own things, and its loop; a component that is called so gets an underscore.
RESERVED = frozenset(
    {"fit", "batches", "model", "optimizer", "scheduler", "loss_function", "device", "order", "valid_order"}
    | {"x_train", "y_train", "x_valid", "y_valid", "source", "path", "file"}
)
LOOP = frozenset({"epoch", "epochs", "scaler", "total", "count", "xb", "yb", "loss", "train_loss", "valid_loss"})


class Sources:
    """The definitions of one script, in the order they need each other, and its imports.

    Args:
        spec: the data spec, written into the definitions.
        without: methods that the script does not call.
    """

    def __init__(self, spec: DataSpec, *, without: Sequence[str] = ()) -> None:
        self.spec, self.without = spec, tuple(without)
        self.imports: set[str] = set()
        self._definitions: dict[str, str] = {}
        self._followed: dict[str, Any] = {}  # what each name that was followed stands for
        self._taken = 0

    def taken(self) -> list[str]:
        """The definitions that have come since this was last asked."""
        found = list(self._definitions.values())[self._taken :]
        self._taken = len(self._definitions)
        return found

    def made(self, component: Component, arguments: Mapping[str, Any], given: Sequence[Text | None]) -> str | None:
        """The expression that makes what a component's factory gives; None where that is nothing.

        Args:
            component: the registered one.
            arguments: its configuration.
            given: what the run hands it first, as code; None for the data spec.
        """
        factory = component.factory
        names = list(inspect.signature(factory).parameters)[: len(given)]
        known: dict[str, Any] = dict(arguments) | {
            name: code for name, code in zip(names, given, strict=True) if code is not None
        }
        spec_names = [name for name, code in zip(names, given, strict=True) if code is None]
        if not inspect.isclass(factory):
            rewriter = self._rewriter(factory, known, spec_names)
            if rewriter.is_empty:
                return None
            if (expression := rewriter.returned()) is not None:
                self._follow(factory, expression, [code.code for code in given if code is not None])
                return expression
        name, left = self._defined(factory, arguments, spec_names)
        positional = [code.code for code in given if code is not None]
        return f"{name}({', '.join([*positional, *(f'{key}={literal(arguments[key])}' for key in left)])})"

    def called(self, component: Component, arguments: Mapping[str, Any], *, spec_at: int | None = None) -> str:
        """The name of a function that stands for a component that is one (a loss, a transform).

        Args:
            component: the registered one.
            arguments: its configuration.
            spec_at: which of its first parameters is the data spec.
        """
        names = list(inspect.signature(component.factory).parameters)
        spec_names = [] if spec_at is None else [names[spec_at]]
        rewriter = self._rewriter(component.factory, arguments, spec_names)
        taken = [name for name in names if name not in arguments and name not in spec_names]
        expression = rewriter.returned()
        call = None if expression is None else ast.parse(expression, mode="eval").body
        if isinstance(call, ast.Call) and not call.keywords and [ast.unparse(a) for a in call.args] == taken:
            name = ast.unparse(call.func)  # it only passes on what it is given
            self._follow(component.factory, name)
            return name
        name, left = self._defined(component.factory, arguments, spec_names)
        if not left:
            return name
        self.imports.add("import functools")
        return f"functools.partial({name}, {', '.join(f'{key}={literal(arguments[key])}' for key in left)})"

    def defined(self, function: Callable[..., Any], known: Known, name: str) -> None:
        """Take a plain function over under another name, with what is known of its arguments written in."""
        self._defined(function, known, [], name=name)

    def _defined(
        self, factory: Any, known: Known, spec_names: Sequence[str], *, name: str = ""
    ) -> tuple[str, list[str]]:
        """Take a definition over; its name in the script, and the configuration that it still has to be given."""
        left = sorted(set(known) & self._rewriter(factory, {}, spec_names).rebound())
        rewriter = self._rewriter(factory, {key: value for key, value in known.items() if key not in left}, spec_names)
        code = rewriter.definition()
        self._follow(factory, code)
        own = factory.__name__
        name = name or (f"{own}_" if own in RESERVED | LOOP else own)
        if name != own:
            code = code.replace(f"{rewriter.keyword} {own}", f"{rewriter.keyword} {name}", 1)
        self._take(name, code)
        return name, left

    def _take(self, name: str, code: str) -> None:
        if self._definitions.setdefault(name, code) != code:
            raise _twice(name)

    def _rewriter(self, factory: Any, known: Known, spec_names: Sequence[str]) -> Rewriter:
        def resolved(dotted: str) -> Any:
            first, *rest = dotted.split(".")
            found = _globals(factory).get(first)
            for part in rest:
                found = getattr(found, part, None)
            return found

        def default_of(function: str, keyword: str) -> Any:
            try:
                parameter = inspect.signature(resolved(function)).parameters.get(keyword)
            except (TypeError, ValueError):  # written in C, or not to be found
                return inspect.Parameter.empty
            return inspect.Parameter.empty if parameter is None else parameter.default

        def ours(name: str) -> bool:
            found = resolved(name)
            return inspect.isclass(found) and issubclass(found, UserError)

        return Rewriter(
            source_of(factory),
            known=known,
            spec=self.spec,
            spec_names=spec_names or _spec_names(factory),
            default_of=default_of,
            ours=ours,
            without=self.without,
        )

    def _follow(self, factory: Any, code: str, given: Sequence[str] = ()) -> None:
        """Import or define what a piece of code names, but for what it is `given`, which the script has."""
        known = _globals(factory) | dict(inspect.getclosurevars(_function(factory)).nonlocals)
        tree = ast.parse(code)
        bound = {
            node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
        }
        bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        bound |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        bound |= {node.id for text in given for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in bound and node.id in known:
                self._need(node.id, known[node.id], _module(factory))

    def _need(self, name: str, value: Any, module: ModuleType | None) -> None:
        """Import or define what a name of a module stands for."""
        if hasattr(builtins, name) and value is getattr(builtins, name):
            return
        where = f"{name} of {module.__name__ if module else 'its module'}"
        if name in RESERVED:
            raise ConfigError(Fault("export_script", f"{where}: a script has a {name} of its own; rename it there"))
        if is_plain(value) or type(value) is float:
            self._take(name, f"{name} = {literal(value)}")
            return
        if name in self._followed:  # also where a function calls itself
            if self._followed[name] is not value:
                raise _twice(name)
            return
        self._followed[name] = value
        home = imports.home(name, value, module)
        if home is not None and not is_own(home):
            self.imports.add(imports.import_of(name, value, module))
        elif inspect.isclass(value) or inspect.isfunction(value):
            self._defined(value, {}, [], name=name)
        else:
            problem = f"{where} is {describe.kind(value)}, which a script cannot hold; make it where it is used"
            raise ConfigError(Fault("export_script", problem))


def source_of(factory: Any) -> str:
    """The text of a definition.

    Raises:
        ConfigError: there is none, since it was typed into a shell; or it is a lambda.
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


def _twice(name: str) -> ConfigError:
    problem = f"two different definitions in this script would be called {name}; rename one of them"
    return ConfigError(Fault("export_script", problem))


def _function(factory: Any) -> Any:
    """A function to look at the names of: itself, or a class's making."""
    made = factory.__init__ if inspect.isclass(factory) else factory
    return made if inspect.isfunction(made) else _function_free


def _function_free() -> None:
    """Names nothing."""


def _spec_names(factory: Any) -> list[str]:
    """Parameters that hold a data spec, by their annotation."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return []
    return [parameter.name for parameter in parameters if "DataSpec" in str(parameter.annotation)]


def _module(factory: Any) -> ModuleType | None:
    return sys.modules.get(factory.__module__)


def _globals(factory: Any) -> dict[str, Any]:
    module = _module(factory)
    return dict(vars(module)) if module is not None else {}
