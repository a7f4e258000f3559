"""A component's own source as it would be in a script: what is configured and known is written in.

Edits are made at positions of the source text, so that comments and lines stay as their author wrote them. Left out
are registrations, annotations, what is already decided (`if dropout:`), and arguments that are a library's defaults.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.errors import ConfigError, Fault
from experiments.export_script.decided import Decided, Definition, Function, without_docstring
from experiments.export_script.values import UNKNOWN, Text, literal

Edit = tuple[int, int, str]  # start and end in bytes, and the text that replaces them
REMARK = re.compile(r"[ \t]*# (noqa|type: ignore|fmt: )[^\n]*")  # to a linter or a type checker
BINDS = re.compile(rb"[ \t]*(\*\*|\.|\[)")  # binds the number before it tighter than its sign
UNCALLED = ("state_dict", "load_state_dict")  # methods that only the framework calls


class Rewriter(Decided):
    """The source of one definition, rewritten.

    Args:
        source: see `Decided`.
        without: methods that the script does not call.
        settings: see `Decided`.
    """

    def __init__(self, source: str, *, without: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(source, **settings)
        self.without = (*UNCALLED, *without)

    def definition(self) -> str:
        """Return the whole definition."""
        start, end = self.span(self.node)
        if self.node.decorator_list:
            start, _ = self.lines(self.node.decorator_list[0])
        return _tidy(self._render((start, end), [self.node]))

    def returned(self) -> str | None:
        """Return the expression that a function consists of; None where there is more to it."""
        if isinstance(self.node, ast.ClassDef):
            return None
        body = [statement for statement in without_docstring(self.node) if not self.is_check(statement)]
        if len(body) != 1 or not isinstance(body[0], ast.Return) or body[0].value is None:
            return None
        return _tidy(textwrap.dedent(" " * body[0].col_offset + self._code(body[0].value)))

    def _code(self, node: ast.AST) -> str:
        return self._render(self.span(node), [node])

    def _render(self, span: tuple[int, int], nodes: Sequence[ast.AST]) -> str:
        """Return the text of a span with the edits of these nodes applied."""
        at, end = span
        pieces = []
        for first, last, replacement in sorted(edit for node in nodes for edit in self._edits(node)):
            pieces += [self.text[at:first], replacement.encode()]
            at = last
        return b"".join([*pieces, self.text[at:end]]).decode()

    def _edits(self, node: ast.AST) -> Iterator[Edit]:
        """Yield the edits inside a node, none within another."""
        if isinstance(node, Definition):
            yield from self._definition_edits(node)
        elif isinstance(node, ast.stmt) and self.is_check(node):
            yield *self.lines(node), ""
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                yield self.span(node.target)[1], self.span(node.annotation)[1], ""
                yield from self._edits(node.value)
        elif isinstance(node, ast.If) and any(self.values.of(arm.test) is not UNKNOWN for arm in self.arms(node)):
            yield *self.lines(node), self._branches(node)
        elif (code := self._replacement(node)) is not None:
            yield *self.span(node), code
        elif not isinstance(node, ast.JoinedStr):  # parts of an f-string have no position before Python 3.12
            for child in ast.iter_child_nodes(node):
                yield from self._edits(child)

    def _replacement(self, node: ast.AST) -> str | None:
        """Return the code of an expression that is known as a whole or in part; None for any other."""
        if isinstance(node, ast.IfExp) and (test := self.values.of(node.test)) is not UNKNOWN:
            return self._code(node.body if test else node.orelse)
        value = self.values.of(node) if isinstance(node, ast.expr) else UNKNOWN
        if value is not UNKNOWN and not isinstance(node, ast.Constant | ast.Tuple):
            code = literal(value)
            # In brackets where what follows would bind a part of it: `-1 ** 2`.
            return f"({code})" if code[0] in "-0123456789" and BINDS.match(self.text, self.span(node)[1]) else code
        if isinstance(node, ast.Starred) and isinstance(values := self.values.of(node.value), tuple | list):
            return ", ".join(map(literal, values))
        if isinstance(node, ast.Name) and isinstance(text := self.known.get(node.id), Text):
            return text.code
        if isinstance(node, ast.Call) and (left_out := self.left_out(node)):
            kept = [part for part in (*node.args, *node.keywords) if part not in left_out]
            return f"{self._code(node.func)}({', '.join(map(self._code, kept))})"
        return None

    def _definition_edits(self, node: Definition) -> Iterator[Edit]:
        body = [s for s in node.body if not (isinstance(s, Function) and s.name in self.without)]
        kept = [decorator for decorator in node.decorator_list if not _registers(decorator)]
        for part in (*node.decorator_list, *node.body):
            if part not in (*kept, *body):
                yield *self.lines(part), ""
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                yield from self._edits(base)
            if kept:  # a dataclass is made of its annotations
                return
        else:
            first = node.body[0]
            start = self.span(first)[0] if first.lineno == node.lineno else self.lines(first)[0]
            yield self.span(node)[0], start, self._header(node)
        docstring = ast.get_docstring(node, clean=True)
        if docstring is not None:
            yield self._docstring_edit(node, body, f'"""{docstring.splitlines()[0]}"""')
        for statement in body[docstring is not None :]:
            yield from self._edits(statement)

    def _docstring_edit(self, node: Definition, body: Sequence[ast.stmt], short: str) -> Edit:
        """Shorten the definition's own docstring; leave out those of the functions inside."""
        start, end = self.span(body[0])
        if node is self.node:
            return start, end, short
        if len(body) == 1:
            return start, end, "pass"
        return (start, self.span(body[1])[0], "") if isinstance(node, Function) else (start, end, short)

    def _header(self, node: Function) -> str:
        """Return `def name(...):` with the parameters that are not known, unannotated."""
        given = node.args
        positional = [*given.posonlyargs, *given.args]
        defaults: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
        first = [self._parameter(a, d) for a, d in zip(positional, defaults, strict=True) if self.stays(node, a)]
        keywords = zip(given.kwonlyargs, given.kw_defaults, strict=True)
        named = [self._parameter(argument, default) for argument, default in keywords if self.stays(node, argument)]
        if given.vararg:
            first.append(f"*{given.vararg.arg}")
        elif named:
            first.append("*")
        if given.kwarg:
            named.append(f"**{given.kwarg.arg}")
        on_one_line = node.body[0].lineno == node.lineno
        indent = " " * (node.col_offset + 4) if on_one_line else ""
        return f"def {node.name}({', '.join([*first, *named])}):\n{indent}"

    def _parameter(self, argument: ast.arg, default: ast.expr | None) -> str:
        return argument.arg if default is None else f"{argument.arg}={self._code(default)}"

    def _branches(self, node: ast.If) -> str:
        """Return an `if` and its `elif`s without what is decided; what has no condition left, one level up."""
        indent, kept, rest = " " * node.col_offset, "", list[ast.stmt]()
        for arm in self.arms(node):
            value, rest = self.values.of(arm.test), arm.orelse
            if value is UNKNOWN and not self.is_check(arm):
                condition = self.span(arm)[0] + len("if" if arm is node else "elif")
                code = self._render((condition, self.lines(arm.body[-1])[1]), [arm.test, *arm.body])
                kept += f"{indent}{'elif' if kept else 'if'}{code}"
            elif value is not UNKNOWN and value:
                rest = arm.body
                break
        if not rest:
            return kept
        (line, end), (start, _) = self.lines(rest[0], rest[-1]), self.span(rest[0])
        shares_line = bool(self.text[line:start].strip())  # it follows its condition on the same line
        code = textwrap.dedent(self._render((start if shares_line else line, end), rest))
        if not kept:
            return textwrap.indent(code, indent)
        return f"{kept}{indent}else:\n{textwrap.indent(code, indent + '    ')}"


def renamed(code: str, names: Mapping[str, str]) -> str:
    """Return code with other names; raise a ConfigError for one inside a string, which has no place of its own."""
    lines, nodes = code.encode().splitlines(keepends=True), list(ast.walk(ast.parse(code)))
    inside = [part for node in nodes if isinstance(node, ast.JoinedStr) for part in ast.walk(node)]
    found = [node for node in nodes if isinstance(node, ast.Name) and names.get(node.id, node.id) != node.id]
    for node in sorted(found, key=lambda node: node.col_offset, reverse=True):
        if node in inside:
            problem = f"{node.id}, which another definition in this script is called too, is in a string; rename it"
            raise ConfigError(Fault("export_script", problem))
        line, at = lines[node.lineno - 1], node.col_offset
        lines[node.lineno - 1] = line[:at] + names[node.id].encode() + line[at + len(node.id.encode()) :]
    return b"".join(lines).decode()


def _registers(decorator: ast.expr) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return "register" in ast.unparse(function).split(".")


def _tidy(code: str) -> str:
    """Return code without remarks, and without several blank lines in a row."""
    return re.sub(r"\n\s*\n(\s*\n)+", "\n\n", REMARK.sub("", code)).strip()
