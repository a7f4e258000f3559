"""Read mnist.pkl.gz without unpickling it: its opcodes are listed from a bounded stream, and none is executed."""

from __future__ import annotations

import gzip
import pickletools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from experiments.errors import DataError

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

# 70,000 rows of 784 float32 and an int64 label are 220 MB.
CAP = 256 << 20
PARTS = 10_000  # opcodes; the file has some 300
FEATURES = 784
# An exported script unpickles the same file, so that anything is refused that a Python 2 pickle of arrays has not:
# other opcodes than PROTO GLOBAL REDUCE BUILD STOP, tuples, memo, whole numbers, strings, None and booleans,
OPCODES = frozenset("\x80cRb." + "()t\x85\x86\x87" + "qrhj" + "KMJ\x8a" + "UT" + "N\x88\x89")
# other names, and other strings beside the arrays' content than the type and the byte order of plain numbers.
NAMES = frozenset({"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"})
WORDS = frozenset({"b", "<", ">", "|", "f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})


def read_pickle(path: Path, sizes: Sequence[int]) -> list[Pair]:
    """Return one pair (pixels (n, 784), labels (n,)) of each size, as bytes; a pixel is the file's value times 256.

    Raises:
        DataError: the file is damaged, or contains anything but such arrays.
    """
    try:
        with gzip.open(path, "rb") as stream:
            return _pairs(list(_contents(_Bounded(stream, CAP))), sizes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a complete gzip file ({error})") from None
    except ValueError as error:
        raise DataError(f"{path}: not the tutorial's pickle ({error!s:.200})") from None


class _Bounded:
    """A stream that raises an error before it fills the memory."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, cap: int) -> None:
        self.stream, self.left = stream, cap

    def read(self, size: int) -> bytes:
        return self._count(self.stream.read(min(size, self.left + 1)))

    def readline(self) -> bytes:
        return self._count(self.stream.readline(self.left + 1))

    def _count(self, chunk: bytes) -> bytes:
        self.left -= len(chunk)
        if self.left < 0:
            raise DataError(f"more than {CAP >> 20} MiB when unpacked; stopped")
        return chunk


def _contents(stream: Any) -> Iterator[tuple[bytes, str]]:
    """Yield the content of each array and its byte order."""
    order = "<"
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count == PARTS:
            raise DataError(f"more than {PARTS:,} parts; stopped")
        if opcode.code not in OPCODES:
            raise ValueError(f"opcode {opcode.name}")
        if opcode.name == "GLOBAL":
            if argument not in NAMES:
                raise DataError(f"the pickle names {str(argument).replace(' ', '.'):.160}, which is refused")
        elif isinstance(argument, str):
            if len(argument) > 2:
                yield argument.encode("latin-1"), order
            elif argument not in WORDS:
                raise DataError("the pickle holds an array of something else than numbers")
            elif argument in "<>|":
                order = argument


def _pairs(contents: Sequence[tuple[bytes, str]], sizes: Sequence[int]) -> list[Pair]:
    expected = 2 * len(sizes)
    if len(contents) != expected:
        raise DataError(f"expected the {expected} arrays of three pairs (pixels, labels), got {len(contents)}")
    triples = zip(contents[::2], contents[1::2], sizes, strict=True)
    return [(_pixels(*x, size), _labels(*y, size)) for x, y, size in triples]


def _numbers(content: bytes, order: str, kind: str, rows: int, columns: int) -> NDArray[Any]:
    """Return the content as numbers; their size follows from its length."""
    size, rest = divmod(len(content), rows * columns)
    if rest or f"{kind}{size}" not in WORDS:
        names = {"f": "pixels", "i": "labels"}[kind]
        raise DataError(f"expected {rows:,} rows of {columns} {names}, got {len(content):,} bytes")
    return np.frombuffer(content, np.dtype(f"{kind}{size}").newbyteorder(">" if order == ">" else "<"))


def _pixels(content: bytes, order: str, rows: int) -> NDArray[np.uint8]:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = _numbers(content, order, "f", rows, FEATURES) * 256
        pixels = scaled.astype(np.uint8)
    if not np.array_equal(pixels, scaled):
        raise DataError("pixels that are not a whole number of 256ths below 1")
    return pixels.reshape(rows, FEATURES)


def _labels(content: bytes, order: str, rows: int) -> NDArray[np.uint8]:
    y = _numbers(content, order, "i", rows, 1)
    if y.min() < 0 or y.max() > 9:
        raise DataError(f"labels from {y.min()} to {y.max()}; digits are 0 to 9")
    return y.astype(np.uint8)
