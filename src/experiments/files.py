"""Folders that files are to be written to."""

from __future__ import annotations

import os
from pathlib import Path


def folder_fault(folder: Path) -> str | None:
    """Why nothing can be written into a folder that is there or is yet to be made; None where it can."""
    nearest = folder.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        return f"{nearest} is not a folder"
    return None if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} cannot be written to"
