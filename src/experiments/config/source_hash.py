"""A hash of a component's source: its definition, and the user's definitions that it names, at any depth."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import inspect
import io
import sys
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

# Of this package, only components are followed; for a shipped dataset, its content is hashed instead.
COMPONENTS, FETCHED = "experiments.components.", "experiments.components.datasets."
PLAIN = (bool, int, float, complex, str, bytes, type(None))

Name = tuple[str, ...]  # dotted, in parts: ("losses", "focal") for losses.focal


def digest(factory: Any) -> str:
    """Hash a definition and all functions, classes and constants of the user's that it needs, by their meaning.

    Installed packages are left out, except the factory's own.
    """
    top = factory.__module__.partition(".")[0]
    texts, seen, waiting = [], set(), [factory]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            texts.append(part)
        elif part not in seen:
            seen.add(part)
            texts.append(meaning(text(part)))
            waiting += _needed(part, top) if _is_followed(part, top) else []
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


@functools.cache
def text(definition: Any) -> str:
    """Return the source of a definition; its name, where it was typed into a shell."""
    try:
        return textwrap.dedent(inspect.getsource(definition))
    except (OSError, TypeError):
        return "\n".join([definition.__qualname__, *(text(method) for method in _methods(definition))])


@functools.cache
def meaning(code: str) -> str:
    """Return code without docstrings, comments and layout."""
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a lambda within a longer statement
        return _without_comments(code)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    return ast.unparse(tree)


def _without_comments(code: str) -> str:
    """Return the tokens of code, as far as it can be tokenized."""
    words = []
    with contextlib.suppress(tokenize.TokenError, SyntaxError):  # a bracket that is open at the end
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type not in (tokenize.COMMENT, tokenize.NL):
                words.append(token.string)
    return " ".join(words)


def is_own(module: ModuleType) -> bool:
    """Return whether a module is this package's or the user's, and not of another package or of Python."""
    top = module.__name__.partition(".")[0]
    if top == "experiments" or module.__name__ == "__main__":
        return True
    if top in sys.stdlib_module_names or getattr(module, "__file__", None) is None:
        return False
    assert module.__file__ is not None
    return not is_installed(Path(module.__file__))


def is_installed(file: Path) -> bool:
    """Return whether a source file is that of an installed package."""
    return "site-packages" in file.parts or "dist-packages" in file.parts


def _needed(definition: Any, top: str) -> list[Any]:
    """Return what a definition names: functions and classes, and constants as lines of code."""
    namespace = _namespace(definition)
    names = [name for name in _names(text(definition)) if name[0] in namespace]
    return [part for name in names for part in _parts(name[-1], _named(name, namespace), top)]


def _parts(name: str, value: Any, top: str) -> Iterator[Any]:
    """Return the parts of a name's value, likewise; a list or a dict, which may change, only if in capitals."""
    if isinstance(value, PLAIN):
        yield f"{name} = {value!r}"
    elif isinstance(value, tuple) or (isinstance(value, list) and name.isupper()):
        for part in value:
            yield from _parts(name, part, top)
    elif isinstance(value, dict) and name.isupper():
        yield from _parts(name, tuple(value.items()), top)
    elif isinstance(value, functools.partial):
        yield from _parts(name, (value.func, *value.args, *value.keywords.items()), top)
    elif not isinstance(value, ModuleType):
        definition = inspect.unwrap(value) if callable(value) else value
        definition = definition if isinstance(definition, type | FunctionType) else type(definition)
        if _is_followed(definition, top):
            yield definition


def _is_followed(definition: Any, top: str) -> bool:
    if isinstance(definition, type) and issubclass(definition, BaseException):  # messages do not change a result
        return False
    module = sys.modules.get(definition.__module__)
    if module is None:
        return False
    if module.__name__.partition(".")[0] == "experiments":
        return module.__name__.startswith(COMPONENTS) and not module.__name__.startswith(FETCHED)
    return is_own(module) or module.__name__.partition(".")[0] == top


def _namespace(definition: Any) -> dict[str, Any]:
    """Return the values of names in a definition: its module's, and those of the enclosing functions."""
    found = dict(vars(sys.modules[definition.__module__])) if definition.__module__ in sys.modules else {}
    for function in [definition] if isinstance(definition, FunctionType) else _methods(definition):
        found |= function.__globals__
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # no value yet, as in a class that is being defined
                found[name] = cell.cell_contents
    return found


def _methods(definition: Any) -> list[FunctionType]:
    return [value for value in vars(definition).values() if isinstance(value, FunctionType)]


def _named(name: Name, namespace: Mapping[str, Any]) -> Any:
    """Return the value of a name; attributes are followed in modules only, not in classes or instances."""
    value = namespace[name[0]]
    for part in name[1:]:
        if not isinstance(value, ModuleType):
            break
        value = getattr(value, part, None)
    return value


@functools.cache
def _names(code: str) -> tuple[Name, ...]:
    """Return the names in code, in its order, each once; none where a method or a lambda alone cannot be parsed."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return ()
    return tuple(dict.fromkeys(filter(None, map(_dotted, ast.walk(tree)))))


def _dotted(node: ast.AST) -> Name:
    """Return `a.b.c` as ("a", "b", "c"); empty for any other node."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (first := _dotted(node.value)):
        return (*first, node.attr)
    return ()
