"""What a test does, read from its code before it runs: it starts a process, it forks, or it makes a whole run.

Read are the test, the functions among its parameters, its fixtures, and all functions of these tests that those name.
What the product starts by itself is not seen there; such a test is marked by hand, and the guard finds it.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

Ways = Mapping[str, frozenset[str]]

# By mark and module, what does it.
WAYS: Mapping[str, Ways] = {
    "process": {
        "subprocess": frozenset({"Popen", "call", "check_call", "check_output", "run"}),
        "os": frozenset({"fork", "system"}),
        "multiprocessing": frozenset({"Pool", "Process", "get_context"}),
        "experiments.parity": frozenset({"against"}),
    },
    "fork": {"tests.support.forked": frozenset({"fork", "forked"})},
    "long": {
        "experiments": frozenset({"run"}),
        "experiments.api": frozenset({"run", "resume"}),
        "experiments.runs.evaluation": frozenset({"evaluate"}),
        "experiments.export_script.exporting": frozenset({"export"}),
        "experiments.parity": frozenset({"compare", "resumed", "stages"}),
        "tests.support.fault_tracker": frozenset({"running"}),  # a tracking server
        "tests.support.resuming": frozenset({"different"}),  # trains again from each point of a training
    },
}


def does(item: pytest.Item, mark: str) -> bool:
    """Whether its code does what the mark says."""
    known: Any = item  # a pytest.Function
    fixtures = [fixture.func for found in known._fixtureinfo.name2fixturedefs.values() for fixture in found]
    parameters = known.callspec.params.values() if hasattr(known, "callspec") else ()
    return code_does([known.function, *fixtures, *parameters], mark)


def code_does(functions: Iterable[Any], mark: str) -> bool:
    """Whether one of these functions does what the mark says."""
    return any(_does(function, mark) for function in _functions(functions))


def not_run(reasons: Iterable[Any]) -> list[str]:
    """How many tests were skipped, a line for each reason; pytest gives one as file, line and "Skipped: ..."."""
    told = Counter(str(reason[2]).removeprefix("Skipped: ") for reason in reasons if isinstance(reason, tuple | list))
    return [f"not run here: {count} {'test' if count == 1 else 'tests'}: {why}" for why, count in told.most_common()]


def _functions(values: Iterable[Any]) -> Iterator[FunctionType]:
    """The functions of these tests among some values: themselves, or in a class, a tuple, a partial."""
    for value in values:
        value = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, functools.partial):
            yield from _functions([value.func, *value.args])
        elif isinstance(value, list | tuple):
            yield from _functions(value)
        elif isinstance(value, staticmethod | classmethod):
            yield from _functions([value.__func__])
        elif isinstance(value, property):
            yield from _functions([value.fget])
        elif isinstance(value, type) and value.__module__.startswith("tests."):
            yield from _functions(list(vars(value).values()))
        elif isinstance(value, FunctionType) and value.__module__.startswith("tests."):
            yield value


@functools.cache
def _does(function: FunctionType, mark: str) -> bool:
    """Whether a function does it, or one of these tests' that it names, and so on."""
    seen: set[FunctionType] = set()
    ahead = [function]
    while ahead:
        if (one := ahead.pop()) not in seen:
            if _is_way(one, WAYS[mark]):
                return True
            seen.add(one)
            ahead += _functions(_named(one))
    return False


def _is_way(function: FunctionType, ways: Ways) -> bool:
    names = _names(function.__code__)
    for value in map(function.__globals__.get, names):
        if isinstance(value, ModuleType):
            found = ways.get(value.__name__, frozenset()) & names
        else:
            found = ways.get(getattr(value, "__module__", None) or "", frozenset()) & {getattr(value, "__name__", "")}
        if found:
            return True
    return False


def _named(function: FunctionType) -> Iterator[Any]:
    """What the names in a function's code stand for, there or in a module of these tests."""
    names = _names(function.__code__)
    for value in map(function.__globals__.get, names):
        yield value
        if isinstance(value, ModuleType) and value.__name__.startswith("tests."):
            yield from (vars(value)[name] for name in names & vars(value).keys())


@functools.cache
def _names(code: CodeType) -> frozenset[str]:
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*inner)
