"""MNIST's file format, idx, and a folder of such files whose content is checked each time it is opened.

The folder is also the cache: four uncompressed files with published SHA-256 (header included), memory-mapped.
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


@dataclass(frozen=True)
class IdxSet:
    """A data set in MNIST's layout, identified by its content.

    Args:
        name: also its folder's name.
        hashes: SHA-256 of each uncompressed file.
        labels: the names of the ten classes.
        sizes: training, validation and test rows; the first two share the training files (the tutorial's split).
    """

    name: str
    hashes: Mapping[str, str]
    labels: tuple[str, ...]
    sizes: tuple[int, int, int] = (50_000, 10_000, 10_000)

    @property
    def digest(self) -> str:
        """Identifies the content of all four files."""
        return hashlib.sha256("".join(self.hashes[part] for part in PARTS).encode()).hexdigest()

    def header(self, part: str) -> bytes:
        """Return the bytes that a file starts with: its kind, its rows and their shape."""
        rows = self._rows(part)
        return struct.pack(">4i", 2051, rows, 28, 28) if "images" in part else struct.pack(">2i", 2049, rows)

    def length(self, part: str) -> int:
        """Return the bytes of an uncompressed file."""
        return len(self.header(part)) + self._rows(part) * (784 if "images" in part else 1)

    def _rows(self, part: str) -> int:
        train, valid, test = self.sizes
        return train + valid if part.startswith("train") else test

    def check(self, part: str, content: bytes | Bytes) -> None:
        """Raise DataError where a file's content is not the published one."""
        found = hashlib.sha256(content if isinstance(content, bytes) else content.data).hexdigest()
        if found != self.hashes[part]:
            raise DataError(f"{part} is not {self.name}'s: sha256 {found}, expected {self.hashes[part]}")

    def open(self, folder: Path) -> dict[str, Bytes] | None:
        """Return the four files memory-mapped, None where one is missing.

        Raises:
            DataError: one is damaged.
        """
        if not all((folder / part).is_file() for part in PARTS):
            return None
        for part in PARTS:
            if (size := (folder / part).stat().st_size) != self.length(part):
                raise DataError(f"{part} has {size:,} bytes, expected {self.length(part):,}")
        # Copy-on-write: torch expects writable arrays, and the files must not change.
        maps: dict[str, Bytes] = {part: np.memmap(folder / part, dtype=np.uint8, mode="c") for part in PARTS}
        for part, content in maps.items():
            self.check(part, content)
        return maps

    def write(self, folder: Path, contents: Mapping[str, bytes]) -> None:
        """Check all four files, then write each whole or not at all."""
        for part in PARTS:
            self.check(part, contents[part])
        for part in PARTS:
            with replacing(folder / part) as temporary:
                temporary.write_bytes(contents[part])

    def splits(self, maps: Mapping[str, Bytes], source: str) -> Splits:
        """Return the tutorial's split of the training rows, and the test rows."""
        images, labels, test_images, test_labels = (maps[part][len(self.header(part)) :] for part in PARTS)
        x, y, train = images.reshape(-1, 784), labels, self.sizes[0]
        return Splits.of(
            train=(x[:train], y[:train]),
            valid=(x[train:], y[train:]),
            test=(test_images.reshape(-1, 784), test_labels),
            shape=(1, 28, 28),
            classes=10,
            digest=self.digest,
            source=source,
            labels=self.labels,
            name=self.name,
        )

    def read_folder(self, folder: Path) -> dict[str, bytes]:
        """Return the four files of a folder, compressed or not.

        Raises:
            DataError: one is missing or damaged.
        """
        return {part: self._read(folder, part) for part in PARTS}

    def _read(self, folder: Path, part: str) -> bytes:
        if (folder / part).is_file():
            return (folder / part).read_bytes()
        if (folder / f"{part}.gz").is_file():
            return self.read_gzip(folder / f"{part}.gz", part)
        raise DataError(f"{folder} has neither {part}.gz nor {part}")

    def read_gzip(self, path: Path, part: str) -> bytes:
        """Return the content of one compressed file.

        Raises:
            DataError: it is not gzip, or its content has another length.
        """
        length = self.length(part)
        try:
            with gzip.open(path, "rb") as stream:
                content = stream.read(length + 1)  # bounded: a small file may unpack to any size
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: not a complete gzip file ({error})") from None
        if len(content) != length:
            raise DataError(
                f"{path}: {'more' if len(content) > length else 'fewer'} than the {length:,} bytes of {part}"
            )
        return content
