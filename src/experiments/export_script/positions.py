"""A source text and where its nodes stand in it: ast tells lines and columns in bytes, edits are made at positions."""

from __future__ import annotations

from typing import Any


class Positions:
    """Where nodes begin and end, in bytes from the text's beginning.

    Args:
        source: the text that they were parsed from.
    """

    def __init__(self, source: str) -> None:
        self.text = source.encode()
        self._starts = [0]
        for line in self.text.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _start(self, node: Any) -> int:
        position: int = self._starts[node.lineno - 1] + node.col_offset
        return position

    def _end(self, node: Any) -> int:
        position: int = self._starts[node.end_lineno - 1] + node.end_col_offset
        return position

    def _line_start(self, node: Any) -> int:
        position: int = self._starts[node.lineno - 1]
        return position

    def _line_end(self, node: Any) -> int:
        position: int = self._starts[node.end_lineno]
        return position
