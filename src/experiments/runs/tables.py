"""Rows as a table, for the terminal or for Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from experiments import live

WIDTH = 80  # columns, in a pipe or a file


Rows = Sequence[Mapping[str, str]]


def table(rows: Rows, *, markdown: bool = False, least: Sequence[str] = (), whole: str = "") -> str:
    """Return rows under their keys.

    Where the table would be too wide, a key has a line for each of its parts (`optim.`, `lr`). On a terminal that is
    still too narrow, columns are left out, and named below.

    Args:
        rows: by key.
        markdown: each row in one line, however wide.
        least: the keys to leave out first, in this order. Columns whose cells are all the same follow, then the others
            from the right; the first one stays.
        whole: where the whole table is.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = {key: [key, *(row.get(key, "") for row in rows)] for key in keys}
    if markdown or not rows:
        return "\n".join(_markdown(list(columns.values())))
    console = live.terminal()
    width = WIDTH if console is None else console.width
    if _width(columns) > width:
        parts = re.compile(r"(?<=[/.])(?=\w)")
        columns = {key: [parts.sub("\n", key), *cells] for key, (_, *cells) in columns.items()}
    left_out = []
    same = [key for key in reversed(keys) if len(rows) > 1 and len(set(columns[key][1:])) == 1]
    for key in dict.fromkeys([*least, *same, *reversed(keys)]):
        if console is None or _width(columns) <= width:
            break
        if key in columns and key != keys[0]:
            del columns[key]
            left_out.append(" ".join(key.split()))
    note = f"\n\nleft out for the width: {', '.join(left_out)} ({whole or '| cat shows all'})" if left_out else ""
    return "\n".join(_plain(list(columns.values()))) + note


def head(text: str) -> int:
    """Return how many lines a table's keys have."""
    return next((number for number, line in enumerate(text.splitlines()) if line and not line.strip("- ")), 0)


def _width(columns: Mapping[str, Sequence[str]]) -> int:
    return sum(_widest(column) + 2 for column in columns.values()) - 2


def _widest(column: Sequence[str]) -> int:
    return max(len(line) for cell in column for line in (cell or " ").splitlines())


def _plain(columns: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [_widest(column) for column in columns]
    for number, cells in enumerate(zip(*columns, strict=True)):
        height = max(cell.count("\n") for cell in cells) + 1
        lines = zip(*([*cell.split("\n"), *[""] * height][:height] for cell in cells), strict=True)
        yield from ("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
        if number == 0:
            yield "  ".join("-" * width for width in widths)


def _markdown(columns: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [_widest(column) for column in columns]
    for number, cells in enumerate(zip(*columns, strict=True)):
        yield f"| {' | '.join(map(str.ljust, (' '.join(cell.splitlines()) for cell in cells), widths))} |"
        if number == 0:
            yield f"|{'|'.join('-' * (width + 2) for width in widths)}|"
