"""A component's own source as it would stand in a script: what is configured and known is written in.

Edits are made at positions of the source text, so that comments and lines stay as their author wrote them. Left out
are registrations, annotations, what is already decided (`if dropout:`), and arguments that are a library's defaults.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from experiments.export_script.positions import Positions
from experiments.export_script.values import UNKNOWN, Known, Text, Values, literal

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef
# Remarks to a linter or a type checker are of no use in a script.
REMARK = re.compile(r"[ \t]*# (noqa|type: ignore|fmt: )[^\n]*")
# What takes the number before it, whatever that is made of.
BINDS = re.compile(rb"[ \t]*(\*\*|\.|\[)")
# What only the framework calls; a script that does not is easier to read without.
UNCALLED = ("state_dict", "load_state_dict")
# Where one looks for it, whatever a library's default is.
ALWAYS_TOLD = ("lr",)


class Rewriter(Positions):
    """The source of one definition, and what of its names is known.

    Args:
        source: the text of a function or class, dedented.
        known: values by name; a `Text` is code that stands for the name, anything else a value to be written out.
        spec: the data spec, whose attributes are written out.
        spec_names: the names of the parameters that hold it, which are left out.
        default_of: the default that a called function has for a keyword; `inspect.Parameter.empty` for none.
        ours: whether an exception of this name is one of our own, for a configuration that cannot be.
        without: methods that the script does not call.
    """

    def __init__(
        self,
        source: str,
        *,
        known: Known,
        spec: Any,
        spec_names: Sequence[str] = (),
        default_of: Callable[[str, str], Any] = lambda _function, _keyword: inspect.Parameter.empty,
        ours: Callable[[str], bool] = lambda _name: False,
        without: Sequence[str] = (),
    ) -> None:
        super().__init__(source)
        self.node = _definition(ast.parse(source))
        self.known, self.spec_names = dict(known), tuple(spec_names)
        self.values = Values(known, spec, spec_names)
        self.default_of, self.ours, self.without = default_of, ours, (*UNCALLED, *without)

    def definition(self) -> str:
        """The whole definition."""
        return _tidy(self._render(self._start(self.node), self._end(self.node), [self.node]))

    def returned(self) -> str | None:
        """The expression that a function consists of; None where there is more to it."""
        if isinstance(self.node, ast.ClassDef):
            return None
        body = [statement for statement in _body(self.node) if not self._is_check(statement)]
        if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
            return None
        value = body[0].value
        code = self._render(self._start(value), self._end(value), [value])
        return _tidy(textwrap.dedent(" " * body[0].col_offset + code))

    @property
    def keyword(self) -> str:
        """What the definition begins with."""
        return "class" if isinstance(self.node, ast.ClassDef) else "def"

    @property
    def is_empty(self) -> bool:
        """Whether a function does nothing at all."""
        return not isinstance(self.node, ast.ClassDef) and not _body(self.node)

    def rebound(self) -> set[str]:
        """Names that it binds again inside itself, or reads inside a string: they have to stay parameters."""
        found, nodes = set[str](), list(self._reached(self.node))
        for node in nodes:
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                found.add(node.id)
            elif isinstance(node, ast.Lambda | Function) and node is not self.node and not self._configured(node):
                found |= {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
            elif isinstance(node, ast.JoinedStr):
                found |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        return found

    def _reached(self, node: ast.AST) -> Iterator[ast.AST]:
        """A node and all below, without the checks."""
        yield node
        for child in ast.iter_child_nodes(node):
            if not (isinstance(child, ast.stmt) and self._is_check(child)):
                yield from self._reached(child)

    def _render(self, start: int, end: int, nodes: Sequence[ast.AST]) -> str:
        """The text between two positions with the edits of these nodes applied."""
        edits = sorted(edit for node in nodes for edit in self._edits(node))
        pieces, at = [], start
        for first, last, replacement in edits:
            pieces += [self.text[at:first], replacement.encode()]
            at = last
        return b"".join([*pieces, self.text[at:end]]).decode()

    def _edits(self, node: ast.AST) -> Iterator[tuple[int, int, str]]:
        """Replacements (start, end, text) inside a node, none within another."""
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from self._definition_edits(node)
        elif isinstance(node, ast.stmt) and self._is_check(node):
            yield self._line_start(node), self._line_end(node), ""
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                yield self._end(node.target), self._end(node.annotation), ""
                yield from self._edits(node.value)
        elif isinstance(node, ast.If) and any(self.values.of(arm.test) is not UNKNOWN for arm in self._arms(node)):
            yield self._line_start(node), self._line_end(node), self._branches(node)
        elif isinstance(node, ast.IfExp) and (test := self.values.of(node.test)) is not UNKNOWN:
            chosen = node.body if test else node.orelse
            yield self._start(node), self._end(node), self._render(self._start(chosen), self._end(chosen), [chosen])
        elif (
            isinstance(node, ast.expr)
            and not isinstance(node, ast.Constant | ast.Tuple)
            and self.values.of(node) is not UNKNOWN
        ):
            yield self._start(node), self._end(node), self._written(node)
        elif isinstance(node, ast.Starred) and isinstance(self.values.of(node.value), tuple | list):
            yield self._start(node), self._end(node), ", ".join(map(literal, self.values.of(node.value)))
        elif isinstance(node, ast.Name) and isinstance(self.known.get(node.id), Text):
            yield self._start(node), self._end(node), self.known[node.id].code
        elif isinstance(node, ast.Call) and (left_out := self._left_out(node)):
            kept = [part for part in (*node.args, *node.keywords) if part not in left_out]
            function = self._render(self._start(node.func), self._end(node.func), [node.func])
            given = ", ".join(self._render(self._start(part), self._end(part), [part]) for part in kept)
            yield self._start(node), self._end(node), f"{function}({given})"
        elif not isinstance(node, ast.JoinedStr):  # what stands in a string has no position of its own before 3.12
            for child in ast.iter_child_nodes(node):
                yield from self._edits(child)

    def _definition_edits(self, node: Definition) -> Iterator[tuple[int, int, str]]:
        outermost = node is self.node
        kept = [decorator for decorator in node.decorator_list if not _registers(decorator)]
        for decorator in node.decorator_list:
            if decorator not in kept:
                yield self._line_start(decorator), self._line_end(decorator), ""
        body = [s for s in node.body if not (isinstance(s, Function) and s.name in self.without)]
        for statement in node.body:
            if statement not in body:
                yield self._line_start(statement), self._line_end(statement), ""
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                yield from self._edits(base)
            if kept:  # a dataclass is made of its annotations
                return
        else:
            yield self._start(node), self._start(node.body[0]), self._header(node)
        docstring = ast.get_docstring(node, clean=True)
        for index, statement in enumerate(body):
            if index == 0 and docstring is not None:
                short = f'"""{docstring.splitlines()[0]}"""'
                if outermost:
                    yield self._start(statement), self._end(statement), short
                else:
                    following = body[1:2]
                    end = self._start(following[0]) if following and isinstance(node, Function) else None
                    yield (
                        (self._start(statement), end, "")
                        if end is not None
                        else (self._start(statement), self._end(statement), "pass" if not following else short)
                    )
                continue
            yield from self._edits(statement)

    def _header(self, node: Function) -> str:
        """`def name(...):` with the parameters that are not known, unannotated."""
        given = node.args
        positional = [*given.posonlyargs, *given.args]
        defaults: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
        first = [self._parameter(a, d) for a, d in zip(positional, defaults, strict=True) if self._stays(node, a)]
        named = [
            self._parameter(a, d)
            for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True)
            if self._stays(node, a)
        ]
        if given.vararg:
            first.append(f"*{given.vararg.arg}")
        elif named:
            first.append("*")
        if given.kwarg:
            named.append(f"**{given.kwarg.arg}")
        indent = " " * node.body[0].col_offset
        if node.body[0].lineno == node.lineno:  # all on one line
            indent = " " * (node.col_offset + 4)
        return f"def {node.name}({', '.join([*first, *named])}):\n{indent}"

    def _parameter(self, argument: ast.arg, default: ast.expr | None) -> str:
        if default is None:
            return argument.arg
        return f"{argument.arg}={self._render(self._start(default), self._end(default), [default])}"

    def _stays(self, node: Function, argument: ast.arg) -> bool:
        if argument.arg in self.spec_names or (argument.annotation and "DataSpec" in ast.unparse(argument.annotation)):
            return False
        return argument.arg not in self.known or not self._configured(node)

    def _configured(self, node: ast.Lambda | Function) -> bool:
        """Whether the known names are this function's parameters: its own, or a class's at its making."""
        return node is self.node or (isinstance(self.node, ast.ClassDef) and getattr(node, "name", "") == "__init__")

    def _left_out(self, node: ast.Call) -> list[ast.expr | ast.keyword]:
        """Arguments that say nothing in a script: the data spec, which is written in, and a library's defaults."""
        left_out: list[ast.expr | ast.keyword] = [
            argument for argument in node.args if isinstance(argument, ast.Name) and argument.id in self.spec_names
        ]
        for keyword in node.keywords:
            value = UNKNOWN if isinstance(keyword.value, ast.Constant) else self.values.of(keyword.value)
            if keyword.arg not in (None, *ALWAYS_TOLD) and value is not UNKNOWN:
                default = self.default_of(ast.unparse(node.func), str(keyword.arg))
                if default is not inspect.Parameter.empty and default == value and (default is None) == (value is None):
                    left_out.append(keyword)
        return left_out

    def _is_check(self, node: ast.stmt) -> bool:
        """Whether a statement only refuses what cannot be; this configuration was accepted."""
        if not isinstance(node, ast.If) or node.orelse or not isinstance(node.body[-1], ast.Raise):
            return False
        raised = node.body[-1].exc
        function = raised.func if isinstance(raised, ast.Call) else raised
        return isinstance(function, ast.Name) and self.ours(function.id)

    def _arms(self, node: ast.If) -> Iterator[ast.If]:
        """An `if` and the `elif`s after it."""
        yield node
        for following in node.orelse[:1]:
            if isinstance(following, ast.If) and self.text.startswith(b"elif", self._start(following)):
                yield from self._arms(following)

    def _branches(self, node: ast.If) -> str:
        """An `if` and its `elif`s without what is decided; what is left without a condition, one level up."""
        indent, kept, rest = " " * node.col_offset, "", list[ast.stmt]()
        for arm in self._arms(node):
            value, rest = self.values.of(arm.test), arm.orelse
            if value is UNKNOWN and not self._is_check(arm):
                condition = self._start(arm) + len("if" if arm is node else "elif")
                code = self._render(condition, self._line_end(arm.body[-1]), [arm.test, *arm.body])
                kept += f"{indent}{'elif' if kept else 'if'}{code}"
            elif value is not UNKNOWN and value:
                rest = arm.body
                break
        if not rest:
            return kept
        begin = self._line_start(rest[0])
        if self.text[begin : self._start(rest[0])].strip():  # it stands behind its condition, on the same line
            begin = self._start(rest[0])
        code = textwrap.dedent(self._render(begin, self._line_end(rest[-1]), rest))
        if not kept:
            return textwrap.indent(code, indent)
        return f"{kept}{indent}else:\n{textwrap.indent(code, indent + '    ')}"

    def _written(self, node: ast.expr) -> str:
        """What an expression is known to come to; in brackets where what follows would take a part: `-1 ** 2`."""
        code = literal(self.values.of(node))
        return f"({code})" if code[0] in "-0123456789" and BINDS.match(self.text, self._end(node)) else code


def _definition(tree: ast.Module) -> Definition:
    node = tree.body[0]
    assert isinstance(node, Definition)
    return node


def _body(node: Function) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node) is not None else node.body


def _registers(decorator: ast.expr) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return "register" in ast.unparse(function).split(".")


def _tidy(code: str) -> str:
    """Without remarks, and without blank lines in a row."""
    return re.sub(r"\n\s*\n(\s*\n)+", "\n\n", REMARK.sub("", code)).strip()
