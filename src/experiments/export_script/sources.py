"""The definitions and imports that a script needs, found in the components' own source."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from types import ModuleType
from typing import Any

from experiments.config.registry import Component
from experiments.config.source_hash import is_own
from experiments.data.splits import DataSpec
from experiments.errors import ConfigError, Fault, UserError
from experiments.export_script import factories
from experiments.export_script.rewriting import Rewriter, renamed
from experiments.export_script.values import Known, Text, is_plain, literal
from experiments.training import describe

SPEC = Text("data_spec")  # where it cannot be written into every definition
# The script's own names, and those of its loop; a component with such a name gets an underscore.
RESERVED = frozenset(
    {"fit", "batches", "model", "optimizer", "scheduler", "loss_function", "device", "order", "source", "path", "file"}
    | {f"{name}_{part}" for name in "xy" for part in ("train", "valid")}
    | {"train_order", "valid_order", "train_batches", "valid_batches", SPEC.code}
)
LOOP = frozenset(
    {"epoch", "epochs", "scaler", "total", "count", "xb", "yb", "loss", "train_loss", "valid_loss"}
    | {"closure", "evaluated", "losses", "part", "target", "pred", "summed", "weight", "step", "training", "Training"}
)


class Sources:
    """The definitions of one script, in the order they need each other, and its imports.

    Different ones of one name (`one_cycle` with two warmups) are numbered: `one_cycle`, `one_cycle_2`.

    Args:
        spec: the data spec, written into the definitions.
        hands_spec: whether it is an argument of theirs instead.
        without: methods that the script does not call.
    """

    def __init__(self, spec: DataSpec, *, hands_spec: bool = False, without: Sequence[str] = ()) -> None:
        self.spec, self.hands_spec, self.without = spec, hands_spec, tuple(without)
        self.imports: set[str] = set()
        self._definitions: dict[str, str] = {}
        self._held: dict[str, Any] = {}  # by name: what is imported, and what is being defined
        self._names: dict[Any, str] = {}  # of functions and classes; none for a class with its settings written in
        self._taken = 0

    def taken(self) -> list[str]:
        """Return the definitions added since the last call."""
        found = list(self._definitions.values())[self._taken :]
        self._taken = len(self._definitions)
        return found

    def made(self, component: Component, arguments: Mapping[str, Any], given: Sequence[Text | None]) -> str | None:
        """Return the expression that makes what a component's factory returns; None where that is nothing.

        Args:
            component: the registered one.
            arguments: its configuration.
            given: the run's own first arguments, as code; None for the data spec.
        """
        factory = component.factory
        given = [code or SPEC for code in given] if self.hands_spec else given
        names = list(inspect.signature(factory).parameters)[: len(given)]
        first = dict(zip(names, given, strict=True))
        spec_names = [name for name, code in first.items() if code is None]
        handed = {name: code for name, code in first.items() if code is not None}
        codes = [code.code for code in handed.values()]
        if not inspect.isclass(factory):
            rewriter = self._rewriter(factory, {**arguments, **handed}, spec_names)
            if rewriter.is_empty:
                return None
            if (expression := rewriter.returned()) is not None:
                return self._linked(factory, expression, codes)
        name, left = self._defined(factory, arguments, spec_names)
        return f"{name}({', '.join([*codes, *_keywords(arguments, left)])})"

    def called(self, component: Component, arguments: Mapping[str, Any], *, spec_at: int | None = None) -> str:
        """Return the name of a function that is a component itself (a loss, a transform).

        Args:
            component: the registered one.
            arguments: its configuration.
            spec_at: which of its first parameters is the data spec.
        """
        names = list(inspect.signature(component.factory).parameters)
        spec_names = [] if spec_at is None else [names[spec_at]]
        if self.hands_spec:
            arguments, spec_names = {**arguments, **dict.fromkeys(spec_names, SPEC)}, []
        expression = self._rewriter(component.factory, arguments, spec_names).returned()
        call = None if expression is None else ast.parse(expression, mode="eval").body
        passed_on = [name for name in names if name not in arguments and name not in spec_names]
        if isinstance(call, ast.Call) and not call.keywords and [ast.unparse(a) for a in call.args] == passed_on:
            return self._linked(component.factory, ast.unparse(call.func))  # it only passes its arguments on
        name, left = self._defined(component.factory, arguments, spec_names)
        if not left:
            return name
        self.imports.add("import functools")
        return f"functools.partial({name}, {', '.join(_keywords(arguments, left))})"

    def defined(self, function: Callable[..., Any], known: Known, name: str) -> None:
        """Add a plain function under another name, with what is known of its arguments written in."""
        if self._defined(function, known, [], name=name)[0] != name:
            raise _twice(name)

    def _defined(
        self, factory: Any, known: Known, spec_names: Sequence[str], *, name: str = ""
    ) -> tuple[str, list[str]]:
        """Add a definition; return its name in the script, and the settings that it still needs as arguments."""
        rebound = self._rewriter(factory, {}, spec_names).rebound()
        if rebound & set(spec_names):
            raise ConfigError(Fault("export_script", f"{factory.__name__} rebinds the data spec"))
        left = sorted(set(known) & rebound)
        rewriter = self._rewriter(factory, {key: value for key, value in known.items() if key not in left}, spec_names)
        code, own, keyword = rewriter.definition(), factory.__name__, rewriter.keyword
        name = name or (f"{own}_" if own in RESERVED | LOOP else own)
        chosen = next(free for free in _numbered(name) if free not in self._held and free not in self._definitions)
        if whole := code == self._rewriter(factory, {}, []).definition():
            self._names[factory] = chosen
        elif inspect.isclass(factory) and self._names.setdefault(factory, ""):
            raise _twice(name)  # what names the class elsewhere would mean another one
        self._held[chosen] = factory  # what it needs may need it
        linked = self._linked(factory, code, itself={own: chosen} if whole or inspect.isclass(factory) else {})
        linked = linked.replace(f"{keyword} {own}", f"{keyword} {chosen}", 1)
        del self._held[chosen]

        def called(name: str) -> str:
            return renamed(linked.replace(f"{keyword} {chosen}", f"{keyword} {name}", 1), {chosen: name})

        name = self._added(name, called)
        self._names |= {factory: name} if whole else {}
        return name, left

    def add(self, name: str, code: str) -> None:
        """Add a definition; raise a ConfigError where the name has another one."""
        if self._definitions.setdefault(name, code) != code:
            raise _twice(name)

    def _added(self, name: str, called: Callable[[str], str]) -> str:
        """Add a definition unless it exists, under the name or a number of it; return its name."""
        free = (each for each in _numbered(name) if each not in self._held)
        return next(each for each in free if self._definitions.setdefault(each, called(each)) == called(each))

    def _rewriter(self, factory: Any, known: Known, spec_names: Sequence[str]) -> Rewriter:
        def ours(name: str) -> bool:
            found = factories.resolved(factory, name)
            return inspect.isclass(found) and issubclass(found, UserError)

        return Rewriter(
            factories.source_of(factory),
            known=known,
            spec=self.spec,
            spec_names=[] if self.hands_spec else spec_names or factories.spec_names(factory),
            default_of=lambda name, keyword: factories.default_of(factories.resolved(factory, name), keyword),
            drops=lambda name, parameter: factories.drops(factories.resolved(factory, name), parameter),
            ours=ours,
            without=self.without,
        )

    def _linked(
        self, factory: Any, code: str, given: Sequence[str] = (), *, itself: Mapping[str, str] | None = None
    ) -> str:
        """Import or define the names in a piece of code, and return it with their names in the script.

        Args:
            factory: whose module has the names.
            code: an expression or a definition.
            given: code in it that the script has.
            itself: the name of the definition, and that in the script.
        """
        known, links = factories.names_of(factory), dict(itself or {})
        nodes = list(ast.walk(ast.parse(code)))
        bound = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        bound |= {node.name for node in nodes[2:] if isinstance(node, ast.FunctionDef | ast.ClassDef)}  # within it
        bound |= {node.id for text in given for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        for node in nodes:
            if isinstance(node, ast.Name) and node.id not in {*bound, *links} and node.id in known:
                links[node.id] = self._need(node.id, known[node.id], factories.module_of(factory))
        if taken := bound & {new for name, new in links.items() if new != name}:
            raise _twice(taken.pop())
        return renamed(code, {name: new for name, new in links.items() if name not in bound})

    def _need(self, name: str, value: Any, module: ModuleType | None) -> str:
        """Import or define what a name of a module means; return its name in the script."""
        if hasattr(builtins, name) and value is getattr(builtins, name):
            return name
        where = f"{name} of {module.__name__ if module else 'its module'}"
        if name in RESERVED:
            raise ConfigError(Fault("export_script", f"{where}: a script has its own {name}; rename it there"))
        if is_plain(value) or type(value) is float:
            return self._added(name, lambda each: f"{each} = {literal(value)}")
        home = factories.home(name, value, module)
        if home is not None and not is_own(home):
            free = (each for each in _numbered(name) if self._held.get(each, value) is value)
            chosen = next(each for each in free if each not in self._definitions)
            self._held[chosen] = value
            self.imports.add(factories.import_of(name, value, module, chosen))
            return chosen
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            imported = isinstance(value, ModuleType)
            remedy = f"import what it has, from {name} import ..." if imported else "make it where it is used"
            problem = f"{where} is {describe.kind(value)}, which a script cannot hold; {remedy}"
            raise ConfigError(Fault("export_script", problem))
        if self._names.get(value) == "":
            raise _twice(name)
        return self._names.get(value) or self._defined(value, {}, [], name=name)[0]


def _numbered(name: str) -> Iterator[str]:
    return (name if number == 1 else f"{name}_{number}" for number in count(1))


def _keywords(arguments: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [f"{name}={literal(arguments[name])}" for name in names]


def _twice(name: str) -> ConfigError:
    problem = f"two different definitions in this script would be called {name}; rename one of them"
    return ConfigError(Fault("export_script", problem))
