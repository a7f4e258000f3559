"""Which names MLflow takes for metrics: one that it refuses, or a value that is no number, would cost the whole run."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)

ALLOWED = re.compile(r"[\w\-. /:]+")
RULE = "a metric's name may have only letters, digits, spaces and _ - . / : (MLflow refuses others)"


def is_valid(name: str) -> bool:
    """Whether MLflow takes this as the name of a figure, which is a path to it."""
    return bool(ALLOWED.fullmatch(name)) and all(part not in ("", ".", "..") for part in name.split("/"))


def drop_invalid(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures that are numbers under a name that MLflow takes; others are told and left out."""
    kept = {}
    for name, value in figures.items():
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError):  # torch's, of a tensor of several numbers
            log.warning("the metric %r is left out, since it is not a number: %.80r", name, value)
            continue
        if is_valid(name):
            kept[name] = number
        else:
            log.warning("the metric %r is left out: %s", name, RULE)
    return kept
