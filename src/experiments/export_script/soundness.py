"""Check a finished script: valid Python, with a definition for every name, whose calls fit the definitions."""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature

from experiments.errors import ConfigError, Fault
from experiments.export_script.decided import Definition, Function

GIVEN = {*vars(builtins), "__file__"}


def sound(text: str) -> str:
    """Return a script.

    Raises:
        ConfigError: it is invalid Python, has an undefined name, or a call that lacks an argument or has another one.
    """
    try:
        top = symtable.symtable(text, "plain.py", "exec")
    except SyntaxError as error:
        problem = f"the script would be invalid Python, at {(error.text or '').strip()!r}: {error.msg}"
        raise ConfigError(Fault("export_script", problem)) from None
    names = [symbol for table in _tables(top) for symbol in table.get_symbols() if symbol.is_global()]
    had = {name.get_name() for name in names if name.is_assigned() or name.is_imported()}
    if missing := sorted({name.get_name() for name in names if name.is_referenced()} - had - GIVEN):
        problem = f"the script would not define {', '.join(missing)}; make each a def, class, import or constant"
        raise ConfigError(Fault("export_script", problem))
    for call, signature in _calls(ast.parse(text)):
        try:
            signature.bind(*call.args, **{str(keyword.arg): None for keyword in call.keywords})
        except TypeError as error:
            problem = f"the script would call {ast.unparse(call)}, which its definition does not take: {error}"
            raise ConfigError(Fault("export_script", problem)) from None
    return text


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _calls(tree: ast.Module) -> Iterator[tuple[ast.Call, Signature]]:
    """Yield each call of a script's own function or class whose arguments are all written, with the signature."""
    nodes = list(ast.walk(tree))
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    top = {node.name: node for node in tree.body if isinstance(node, Definition) and node.name not in bound}
    for statement in tree.body:
        for node in ast.walk(statement):
            if not isinstance(node, ast.Call):
                continue
            if any(
                isinstance(part, ast.Starred) or getattr(part, "arg", "") is None
                for part in (*node.args, *node.keywords)
            ):
                continue
            called = ast.unparse(node.func)
            inherits = called == "super().__init__" and isinstance(statement, ast.ClassDef)
            signature = _signature(statement if inherits else top.get(called), top, inherited=inherits)
            if signature is not None:
                yield node, signature


def _signature(node: ast.AST | None, top: Mapping[str, Definition], *, inherited: bool = False) -> Signature | None:
    """Return what a function, or the making of a class, takes; None where that is not known."""
    if isinstance(node, Function) and not node.decorator_list:
        return _taken(node.args)
    if not isinstance(node, ast.ClassDef) or node.decorator_list or node.keywords:
        return None
    for method in [] if inherited else node.body:
        if isinstance(method, Function) and method.name in ("__init__", "__new__"):
            return _taken(method.args, without=1)
    return _signature(top.get(ast.unparse(node.bases[0])), top) if len(node.bases) == 1 else None


def _taken(given: ast.arguments, without: int = 0) -> Signature:
    """Return a signature without the first ones of its parameters."""
    first, both = [*given.posonlyargs, *given.args], len(given.posonlyargs) + len(given.args) - len(given.defaults)
    found = [
        Parameter(
            each.arg,
            Parameter.POSITIONAL_ONLY if place < len(given.posonlyargs) else Parameter.POSITIONAL_OR_KEYWORD,
            default=default,
        )
        for place, each in enumerate(first)
        for default in [None if place >= both else Parameter.empty]
    ]
    found += [Parameter(given.vararg.arg, Parameter.VAR_POSITIONAL)] if given.vararg else []
    found += [
        Parameter(each.arg, Parameter.KEYWORD_ONLY, default=Parameter.empty if default is None else None)
        for each, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    found += [Parameter(given.kwarg.arg, Parameter.VAR_KEYWORD)] if given.kwarg else []
    return Signature(found[without:])
