"""A run's description as MLflow shows it: Markdown, cut at 8,000 characters."""

from __future__ import annotations

LONGEST = 8000


def shown(text: str, rest: str, *, before: str = "", after: str = "") -> str:
    """A text between two others, with as many of its lines as there is room for; `rest` says where the others are."""
    room = LONGEST - len(before) - len(after)
    if len(text) > room:
        room -= len(rest) + 2
        kept = text[:room].rpartition("\n")[0]
        after = f"{after}\n\n{rest}"
        text = kept
    return f"{before}{text}{after}"
