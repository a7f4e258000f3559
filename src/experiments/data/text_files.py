"""Read text files: labelled texts, or one text in consecutive parts; and rows of their tokens."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.data.stratify import Division
from experiments.errors import DataError

log = logging.getLogger(__name__)
Array = NDArray[Any]
SPACE = re.compile(r"\s|$")  # which every text has
PARTS = {"train", "valid", "val", "test"}


def is_labelled(path: Path) -> bool:
    """Return whether a path is a table, or a folder of folders of .txt files."""
    return path.suffix.lower() in (".csv", ".tsv", ".parquet", ".jsonl") or any(path.glob("*/*.txt"))


def labelled(path: Path, text: str, label: str, group: str | None) -> tuple[Array, list[str], Array, Array | None]:
    """Return texts, the classes' names, the class of each text, and perhaps its group; a folder's name is a class.

    Raises:
        DataError: a column is missing or has gaps, or a file is not a text.
    """
    import pyarrow as pa  # late: it is for labelled texts alone

    from experiments.data import table_columns, table_file

    if path.is_dir():
        files = sorted(path.glob("*/*.txt"))
        names = [file.parent.name for file in files]
        if {*names} <= PARTS:
            raise DataError(f"its folders {', '.join(sorted({*names}))} are not classes; join the texts of each class")
        rows = pa.table({text: list(map(read, files)), label: names})
    else:
        rows = table_file.read(path)
    used = [name for name in (text, label, group) if name is not None]
    table_file.require(rows, used, "dataset.text, label and group")
    rows = table_file.complete(rows.select(used), used, "refuse")
    names, y = table_columns.classes(rows, [label], "labels")
    if y is None:
        raise DataError(f"column {label} holds {rows[label].type}; labels are text or whole numbers")
    return table_file.as_text(rows[text]), names, y, table_file.as_text(rows[group]) if group else None


def consecutive(path: Path, division: Division, group: str | None) -> dict[str, str]:
    """Return the parts of one text, cut at spaces: its end is for validation, or for the test where there is one.

    Raises:
        DataError: there is no text, or it is to be split in another way.
    """
    if division.folds or division.stratify or group:
        raise DataError("one text has no folds, strata or groups; its end is for validation")
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not files:
        raise DataError("it holds no .txt files, and no folders of them")
    whole = "\n".join(map(read, files))
    shares = {"train": 1 - division.valid_fraction - division.test_fraction, "valid": 1 - division.test_fraction}
    shares |= {"test": 1} if division.test_fraction else {}
    parts, start = {}, 0
    for part, share in shares.items():
        if space := SPACE.search(whole, round(max(share, 0) * len(whole))):
            parts[part], start = whole[start : space.end()], space.end()
    return parts


def read(path: Path) -> str:
    """Return a file's text."""
    try:
        found = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path.name}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} is not UTF-8 ({error.reason} at byte {error.start:,}); save it as UTF-8"
        ) from None
    if not found.strip():
        raise DataError(f"{path.name} is empty")
    return found


def windows(numbers: Sequence[int], length: int, part: str) -> tuple[Array, Array]:
    """Return windows (n, length) of a text's tokens, and the token after each of theirs (n, length)."""
    count = (len(numbers) - 1) // length
    if count < 1:
        problem = f"the {part} part has {len(numbers)} tokens, a window of dataset.length={length} needs {length + 1}"
        raise DataError(f"{problem}; take more text or a smaller length")
    found = np.array(numbers[: count * length + 1], np.int64)
    return found[:-1].reshape(count, length), found[1:].reshape(count, length)


def padded(texts: Sequence[Sequence[int]], length: int) -> Array:
    """Return texts (n, length), cut, or padded with 0; say how many are cut."""
    x = np.zeros((len(texts), length), np.int64)
    for row, numbers in zip(x, texts, strict=True):
        row[: len(numbers)] = numbers[:length]
    if cut := sum(len(numbers) > length for numbers in texts):
        log.info("%d texts are cut to dataset.length=%d tokens; the longest has %d", cut, length, max(map(len, texts)))
    return x
