"""Names of other packages that these do not promise: whether an installed version still has them."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any


def require(distribution: str, read_from: str, names: Iterable[str], module: str) -> None:
    """Fail with one message where a package has lost names that a module of ours uses.

    Args:
        distribution: the package.
        read_from: the version in which we have read them.
        names: `package.module:attribute.attribute`.
        module: the module of ours.
    """
    if lost := [name for name in names if not has(name)]:
        raise AssertionError(message(distribution, read_from, lost, module))


def require_parameters(distribution: str, read_from: str, calls: Mapping[Any, set[str]], module: str) -> None:
    """Fail likewise where a function has lost parameters that we pass by name."""
    lost = [f"{call.__qualname__}({name}=)" for call, names in calls.items() for name in names - parameters(call)]
    if lost:
        raise AssertionError(message(distribution, read_from, lost, module))


def message(distribution: str, read_from: str, lost: list[str], module: str) -> str:
    installed = f"{distribution} {version(distribution)}"
    return f"{installed} has no {', '.join(lost)}; {module} was written for {distribution} {read_from}: adapt it"


def has(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def parameters(call: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(call).parameters)
