"""Which metric names MLflow accepts: a refused one, or a value that is not a number, would cost the whole run."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)

ALLOWED = re.compile(r"[\w\-. /:]+")
RULE = "a metric's name may have only letters, digits, spaces and _ - . / : (MLflow refuses others)"


def is_valid(name: str) -> bool:
    """Return whether MLflow accepts this as a metric's name, which it treats as a path."""
    return bool(ALLOWED.fullmatch(name)) and all(part not in ("", ".", "..") for part in name.split("/"))


def drop_invalid(figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that MLflow accepts; warn of the others and leave them out."""
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
