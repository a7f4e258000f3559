"""The tutorial's stages by name, in order."""

from __future__ import annotations

from importlib import resources


def names() -> list[str]:
    """Return all of them."""
    folder = resources.files("experiments.conf") / "stage"
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


def before(name: str) -> str | None:
    """Return the stage before; None for the first, and for a name that is not a stage."""
    known = names()
    index = known.index(name) if name in known else 0
    return known[index - 1] if index else None
