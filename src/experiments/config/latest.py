"""`latest`: the run or sweep that was started or resumed last. `outputs/latest` links to it; commands take the word."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from uuid import uuid4

from experiments.files import expanded

NAME = "latest"


def mark(output_root: Path, folder: Path) -> None:
    """Have `latest` name this run or sweep, whoever else does so now; a folder of that name stays as it is."""
    temporary = output_root.resolve() / f".{NAME}-{uuid4().hex}"
    with contextlib.suppress(OSError):
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            target = os.path.relpath(folder.resolve(), temporary.parent)  # holds in a project that is moved
            temporary.symlink_to(target, target_is_directory=True)
        except (OSError, ValueError):  # Windows lets some users only make links: a file with the path is there instead
            temporary.write_text(str(folder.resolve()), encoding="utf-8")
        temporary.replace(temporary.with_name(NAME))
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def meant(name: str | Path, output_root: str | Path = "outputs") -> Path:
    """Return the folder that a path means, which may start with the word `latest`, as in `latest/0`."""
    path = expanded(name)
    path = Path(output_root, path) if path.parts[:1] == (NAME,) else path
    for link in (path, *path.parents):
        if link.name == NAME and link.is_file():
            with contextlib.suppress(OSError, ValueError):  # another file of that name, which holds no path
                folder = Path(link.read_text(encoding="utf-8"))
                return folder / path.relative_to(link) if folder.is_absolute() and folder.is_dir() else path
    return path
