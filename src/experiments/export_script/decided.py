"""What of a component's source is decided before its script runs, and where it is in the text."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from experiments.export_script.values import UNKNOWN, Known, Values

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef
ALWAYS_WRITTEN = ("lr",)  # readers look for it, whatever a library's default is


class Decided:
    """The source of one definition, and what of its names is known.

    Args:
        source: the text of a function or class, dedented.
        known: values by name; a `Text` is code that replaces the name, anything else a value to be written out.
        spec: the data spec, whose attributes are written out.
        spec_names: the names of the parameters that hold it, which are left out.
        default_of: the default that a called function has for a keyword; `inspect.Parameter.empty` for none.
        drops: whether a called function loses a parameter, by position or name, which is a data spec.
        ours: whether an exception of this name is a UserError, which rejects a configuration.
    """

    def __init__(
        self,
        source: str,
        *,
        known: Known,
        spec: Any,
        spec_names: Sequence[str] = (),
        default_of: Callable[[str, str], Any] = lambda _function, _keyword: inspect.Parameter.empty,
        drops: Callable[[str, int | str], bool] = lambda _function, _parameter: False,
        ours: Callable[[str], bool] = lambda _name: False,
    ) -> None:
        self.text = source.encode()  # ast counts columns in bytes
        self._starts = [0]
        for line in self.text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        node = ast.parse(source).body[0]
        assert isinstance(node, Definition)
        self.node: Definition = node
        self.known, self.spec_names = dict(known), tuple(spec_names)
        self.values = Values(known, spec, spec_names)
        self.default_of, self.drops, self.ours = default_of, drops, ours

    @property
    def keyword(self) -> str:
        """The word that the definition starts with."""
        return "class" if isinstance(self.node, ast.ClassDef) else "def"

    @property
    def is_empty(self) -> bool:
        """Whether a function does nothing at all."""
        return not isinstance(self.node, ast.ClassDef) and not without_docstring(self.node)

    def rebound(self) -> set[str]:
        """Return the names that it rebinds, or reads inside a string: they have to stay parameters."""
        found = set[str]()
        for node in self._reached(self.node):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                found.add(node.id)
            elif isinstance(node, ast.Lambda | Function) and node is not self.node and not self.configured(node):
                found |= {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
            elif isinstance(node, ast.JoinedStr):
                found |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        return found

    def _reached(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield a node and all below, without the checks."""
        yield node
        for child in ast.iter_child_nodes(node):
            if not (isinstance(child, ast.stmt) and self.is_check(child)):
                yield from self._reached(child)

    def span(self, first: Any, last: Any = None) -> tuple[int, int]:
        """Return the bytes from the start of a node to its end, or to another's."""
        last = last or first
        start: int = self._starts[first.lineno - 1] + first.col_offset
        end: int = self._starts[last.end_lineno - 1] + last.end_col_offset
        return start, end

    def lines(self, first: Any, last: Any = None) -> tuple[int, int]:
        """Return the bytes of the whole lines that a node covers, or those from it to another."""
        return self._starts[first.lineno - 1], self._starts[(last or first).end_lineno]

    def stays(self, node: Function, argument: ast.arg) -> bool:
        """Whether a function keeps a parameter."""
        return argument.arg not in (*self.spec_names, *self.known) or not self.configured(node)

    def configured(self, node: ast.Lambda | Function) -> bool:
        """Whether the known names are this function's parameters: the definition itself, or its class's `__init__`."""
        return node is self.node or (isinstance(self.node, ast.ClassDef) and getattr(node, "name", "") == "__init__")

    def left_out(self, node: ast.Call) -> list[ast.expr | ast.keyword]:
        """Return the arguments that a script does not need: the data spec, and a library's defaults."""
        called, found = ast.unparse(node.func), list[ast.expr | ast.keyword]()
        places: list[tuple[int | str, ast.expr | ast.keyword]] = [*enumerate(node.args)]
        for place, given in [*places, *((keyword.arg or "", keyword) for keyword in node.keywords)]:
            value = given.value if isinstance(given, ast.keyword) else given
            if isinstance(value, ast.Name) and value.id in self.spec_names and self.drops(called, place):
                found.append(given)
        for keyword in node.keywords:
            value = UNKNOWN if isinstance(keyword.value, ast.Constant) else self.values.of(keyword.value)
            if keyword.arg not in (None, *ALWAYS_WRITTEN) and value is not UNKNOWN:
                default = self.default_of(called, str(keyword.arg))
                if default is not inspect.Parameter.empty and default == value and (default is None) == (value is None):
                    found.append(keyword)
        return found

    def is_check(self, node: ast.stmt) -> bool:
        """Whether a statement only rejects configurations; this one was accepted."""
        if not isinstance(node, ast.If) or node.orelse or not isinstance(node.body[-1], ast.Raise):
            return False
        raised = node.body[-1].exc
        function = raised.func if isinstance(raised, ast.Call) else raised
        return isinstance(function, ast.Name) and self.ours(function.id)

    def arms(self, node: ast.If) -> Iterator[ast.If]:
        """Yield an `if` and the `elif`s after it."""
        yield node
        for following in node.orelse[:1]:
            if isinstance(following, ast.If) and self.text.startswith(b"elif", self.span(following)[0]):
                yield from self.arms(following)


def without_docstring(node: Function) -> list[ast.stmt]:
    """Return the statements of a function after its docstring."""
    return node.body[1:] if ast.get_docstring(node) is not None else node.body
