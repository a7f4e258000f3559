"""A data set of 80 digits in MNIST's layout that replaces the 70,000, and a writer of Python 2's pickles."""

from __future__ import annotations

import functools
import gzip
import hashlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.components.datasets import mnist
from experiments.data import idx

SIZES = (50, 10, 20)
Pair = tuple[NDArray[Any], NDArray[Any]]


def pairs() -> tuple[Pair, Pair, Pair]:
    """The three pairs (pixels float32 (n, 784), labels int64 (n,)), the same each time."""
    generator = np.random.default_rng(0)
    train, valid, test = (
        ((generator.integers(0, 256, (size, 784)) / 256).astype(np.float32), np.arange(size, dtype=np.int64) % 10)
        for size in SIZES
    )
    return train, valid, test


@functools.cache
def contents() -> dict[str, bytes]:
    """The same as the four idx files."""
    train, valid, test = pairs()
    rows = len(train[0]) + len(valid[0])
    headers = (
        struct.pack(">4i", 2051, rows, 28, 28),
        struct.pack(">2i", 2049, rows),
        struct.pack(">4i", 2051, len(test[0]), 28, 28),
        struct.pack(">2i", 2049, len(test[0])),
    )
    images, labels = np.concatenate([train[0], valid[0]]), np.concatenate([train[1], valid[1]])
    arrays = (images * 256, labels, test[0] * 256, test[1])
    return {
        part: header + array.astype(np.uint8).tobytes()
        for part, header, array in zip(idx.PARTS, headers, arrays, strict=True)
    }


def install(patch: Callable[[Any, str, Any], None]) -> None:
    """Make it MNIST, by `monkeypatch.setattr` or, in a process of its own, by `setattr`."""
    hashes = {part: hashlib.sha256(content).hexdigest() for part, content in contents().items()}
    patch(mnist, "MNIST", idx.IdxSet("mnist", hashes, mnist.MNIST.labels, SIZES))


def packed(value: Any = None, level: int = 6) -> bytes:
    """A mnist.pkl.gz; of the right content if none is given."""
    return gzip.compress(b"\x80\x02" + opcodes(pairs() if value is None else value) + b".", level)


class Raw(bytes):
    """Opcodes as they stand."""


def call(module: str, name: str, *arguments: Any) -> Raw:
    """The opcodes that call a global."""
    return Raw(f"c{module}\n{name}\n".encode() + opcodes(arguments) + b"R")


def opcodes(value: Any) -> bytes:
    """A value as Python 2 writes it in protocol 2: its text is bytes."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, np.ndarray):
        return array(value.dtype.str[1:].encode(), value.shape, value.tobytes())
    if isinstance(value, tuple):
        return b"(" + b"".join(opcodes(item) for item in value) + b"t"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    content: bytes = value.encode() if isinstance(value, str) else value
    return b"T" + struct.pack("<i", len(content)) + content


def array(code: bytes, shape: tuple[int, ...], content: Any, order: bytes = b"<") -> Raw:
    """The opcodes of an array."""
    empty = call("numpy.core.multiarray", "_reconstruct", Raw(b"cnumpy\nndarray\n"), (0,), b"b")
    dtype = call("numpy", "dtype", code, 0, 1) + opcodes((3, order, *[Raw(b"N")] * 3, -1, -1, 0)) + b"b"
    return Raw(empty + opcodes((1, shape, Raw(dtype), Raw(b"\x89"), content)) + b"b")
