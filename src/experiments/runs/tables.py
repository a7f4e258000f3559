"""Rows as a table, for the terminal or for Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import tabulate

WIDTH = 80  # columns of a terminal


def table(rows: Sequence[Mapping[str, str]], *, markdown: bool = False) -> str:
    """Return rows under their keys.

    On a terminal, where the table would be too wide, a key has a line for each of its parts (`optim.`, `lr`).
    """
    if markdown:
        return _table(rows, "github")
    text = _table(rows, "simple")
    if max(map(len, text.splitlines()), default=0) > WIDTH:
        parts = re.compile(r"(?<=[/.])(?=\w)")
        text = _table([{parts.sub("\n", key): value for key, value in row.items()} for row in rows], "simple")
    return text


def _table(rows: Sequence[Mapping[str, str]], style: str) -> str:
    padding = tabulate.MIN_PADDING
    tabulate.MIN_PADDING = 0  # else each column is two wider than its head; the library has no argument for it
    try:
        return str(tabulate.tabulate(rows, headers="keys", tablefmt=style, disable_numparse=True))
    finally:
        tabulate.MIN_PADDING = padding
