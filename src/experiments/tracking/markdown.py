"""A run's description in MLflow: Markdown, of which the UI shows 8,000 characters."""

from __future__ import annotations

LONGEST = 8000


def shown(text: str, rest: str, *, before: str = "", after: str = "") -> str:
    """Return a text between two others, cut after as many lines as fit; then `rest` says where the others are."""
    room = LONGEST - len(before) - len(after)
    if len(text) <= room:
        return f"{before}{text}{after}"
    kept = text[: room - len(rest) - 2].rpartition("\n")[0]
    return f"{before}{kept}{after}\n\n{rest}"
