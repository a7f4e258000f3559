"""Finished runs by their run key: one small file each, below the output folder."""

from __future__ import annotations

from pathlib import Path

from experiments.files import replacing
from experiments.tracking import record
from experiments.training.weights import FILE

KEYS = "keys"


def remember(output_root: Path, key: str, folder: Path) -> None:
    """Note the folder of the finished run with this key."""
    index = output_root / KEYS
    index.mkdir(parents=True, exist_ok=True)
    with replacing(index / key) as temporary:
        temporary.write_text(str(folder.resolve()), encoding="utf-8")


def recall(output_root: Path, key: str) -> Path | None:
    """Return the folder of a finished run with this key, if it exists and was not trained longer since."""
    try:
        folder = Path((output_root / KEYS / key).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return folder if (folder / FILE).is_file() and record.run_key(folder) == key else None


def finished(output_root: Path, key: str) -> Path | None:
    """Return the folder of a finished run with this key, if its weights exist."""
    found = recall(output_root, key)
    return found if found is not None and record.read(found).finished else None
