"""`--json`: a command's answer as one JSON document on standard output, and nothing else there.

    {"schema": 1, "command": "compare", "exit_code": 0, "answer": {...}, "error": null}

`answer` is the command's record, whose fields docs/json.md lists; it is null where the command ended before it had one,
and `error` is null where it ended well. A number that is not finite is null, since JSON has none. All other text goes
to standard error.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TextIO

SCHEMA = 1  # one more with every change that a reader would notice, other than a new field

_given: list[Any] = []  # one or none


def give(record: Any) -> None:
    """Take a record, a dataclass of plain values, paths and such records, as what this command came to.

    Or a function that makes it once the command has ended, however it ends.
    """
    _given[:] = [record]


@contextlib.contextmanager
def alone() -> Iterator[TextIO]:
    """Yield standard output, while what this process and those it starts print there goes to standard error."""
    _given.clear()
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as output:
            yield output
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def document(command: str, exit_code: int, error: str | None = None) -> str:
    """Return the document of a command that ended, with what it gave, if anything, and the error that ended it."""
    given = next(iter(_given), None)
    answer = plain(given() if callable(given) else given)
    told = {"schema": SCHEMA, "command": command, "exit_code": exit_code, "answer": answer, "error": error}
    return json.dumps(told, allow_nan=False)


def plain(value: Any) -> Any:
    """Return a record as JSON has it."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
