"""Parameters in groups by their names; a script has these functions too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor


def grouped(
    named_parameters: Iterable[tuple[str, Tensor]], groups: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return each parameter in the group of the first pattern that its name matches, the rest in the last one, `*`."""
    found: dict[str, list[Tensor]] = {pattern: [] for pattern in [*groups, "*"]}
    for name, parameter in named_parameters:
        found[next(pattern for pattern in found if fnmatchcase(name, pattern))].append(parameter)
    return [{"params": found[one], "name": one, **groups.get(one, {})} for one in found if found[one]]


def without_decay(named_parameters: Iterable[tuple[str, Tensor]]) -> list[dict[str, Any]]:
    """Return two groups, the second without weight decay: biases and norms, of at most one dimension."""
    named = [("no_decay" if parameter.ndim <= 1 else "weights", parameter) for _, parameter in named_parameters]
    return grouped(named, {"weights": {}, "no_decay": {"weight_decay": 0.0}})
