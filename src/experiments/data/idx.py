"""MNIST's own file format, idx, and a folder of such files that is checked by content each time it is opened.

The folder is also the cache: four uncompressed files, whose published SHA-256 (header included) says whether they
are what they should be, read by memory-mapping.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.data.download import replacing
from experiments.data.splits import Splits
from experiments.errors import DataError

Bytes = NDArray[np.uint8]

PARTS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
HEADERS = {
    PARTS[0]: struct.pack(">4i", 2051, 60_000, 28, 28),
    PARTS[1]: struct.pack(">2i", 2049, 60_000),
    PARTS[2]: struct.pack(">4i", 2051, 10_000, 28, 28),
    PARTS[3]: struct.pack(">2i", 2049, 10_000),
}
LENGTHS = {PARTS[0]: 47_040_016, PARTS[1]: 60_008, PARTS[2]: 7_840_016, PARTS[3]: 10_008}
# The tutorial's split of the 60,000 training rows.
TRAIN_ROWS = 50_000


@dataclass(frozen=True)
class IdxSet:
    """A data set in MNIST's layout, known by its content.

    Args:
        name: the dataset's name, and its folder's.
        hashes: SHA-256 of each uncompressed file.
        labels: what the ten classes are called.
    """

    name: str
    hashes: Mapping[str, str]
    labels: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Identifies the content of all four files."""
        return hashlib.sha256("".join(self.hashes[part] for part in PARTS).encode()).hexdigest()

    def check(self, part: str, content: bytes | Bytes) -> None:
        """Raise DataError where a file's content is not the published one."""
        found = hashlib.sha256(content if isinstance(content, bytes) else content.data).hexdigest()
        if found != self.hashes[part]:
            raise DataError(f"{part} is not {self.name}'s: sha256 {found}, expected {self.hashes[part]}")

    def open(self, folder: Path) -> dict[str, Bytes] | None:
        """The four files memory-mapped and checked; None where one is missing.

        Raises:
            DataError: one is damaged.
        """
        if not all((folder / part).is_file() for part in PARTS):
            return None
        for part in PARTS:
            if (size := (folder / part).stat().st_size) != LENGTHS[part]:
                raise DataError(f"{part} has {size:,} bytes, expected {LENGTHS[part]:,}")
        # Copy-on-write: torch wants arrays it could write to; the files stay as they are.
        maps: dict[str, Bytes] = {part: np.memmap(folder / part, dtype=np.uint8, mode="c") for part in PARTS}
        for part, content in maps.items():
            self.check(part, content)
        return maps

    def write(self, folder: Path, contents: Mapping[str, bytes]) -> None:
        """Keep the four files in a folder, each checked and whole or not at all."""
        for part in PARTS:
            self.check(part, contents[part])
        for part in PARTS:
            with replacing(folder / part) as temporary:
                temporary.write_bytes(contents[part])
                temporary.chmod(0o644)

    def splits(self, maps: Mapping[str, Bytes], source: str) -> Splits:
        """The tutorial's split: 50,000 / 10,000 of the training rows, and the test rows."""
        images, labels, test_images, test_labels = (maps[part][len(HEADERS[part]) :] for part in PARTS)
        x, y = images.reshape(-1, 784), labels
        return Splits.of(
            train=(x[:TRAIN_ROWS], y[:TRAIN_ROWS]),
            valid=(x[TRAIN_ROWS:], y[TRAIN_ROWS:]),
            test=(test_images.reshape(-1, 784), test_labels),
            shape=(1, 28, 28),
            classes=10,
            digest=self.digest,
            source=source,
            labels=self.labels,
            name=self.name,
        )


def read_folder(folder: Path) -> dict[str, bytes]:
    """The four files of a folder, compressed or not.

    Raises:
        DataError: one is missing or no gzip.
    """
    return {part: _read(folder, part) for part in PARTS}


def read_gzip(path: Path, part: str) -> bytes:
    """One compressed idx file, read up to the length it should have.

    Raises:
        DataError: it is no gzip, or longer than it should be.
    """
    try:
        with gzip.open(path, "rb") as stream:
            content = stream.read(LENGTHS[part] + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a complete gzip file ({error})") from None
    if len(content) != LENGTHS[part]:
        longer = "more" if len(content) > LENGTHS[part] else "fewer"
        raise DataError(f"{path}: {longer} than the {LENGTHS[part]:,} bytes of {part}")
    return content


def _read(folder: Path, part: str) -> bytes:
    if (folder / part).is_file():
        return (folder / part).read_bytes()
    if (folder / f"{part}.gz").is_file():
        return read_gzip(folder / f"{part}.gz", part)
    raise DataError(f"{folder} has neither {part}.gz nor {part}")
