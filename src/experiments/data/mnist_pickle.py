"""Read mnist.pkl.gz without trusting it: a bounded stream, an unpickler of three names and few opcodes."""

from __future__ import annotations

import gzip
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from experiments.errors import DataError

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

# 70,000 rows of 784 float32 and an int64 label are 220 MB.
CAP = 256 << 20
FEATURES = 784
NUMBERS = frozenset({b"f2", b"f4", b"f8", b"i1", b"i2", b"i4", b"i8", b"u1", b"u2", b"u4", b"u8"})
# PROTO GLOBAL REDUCE BUILD STOP, tuples, memo, whole numbers, strings, None and booleans: all that arrays need.
OPCODES = b"\x80cRb." + b"()t\x85\x86\x87" + b"qrhj" + b"KMJ\x8a" + b"UT" + b"N\x88\x89"
READS = 10_000  # each opcode is one at least; the file needs some 300


def read_pickle(path: Path, sizes: Sequence[int]) -> list[Pair]:
    """Return one pair (pixels (n, 784), labels (n,)) of each size, as bytes; a pixel is the file's value times 256.

    Raises:
        DataError: the file is damaged, or holds or names anything but such arrays.
    """
    try:
        with gzip.open(path, "rb") as stream:
            return _pairs(_ArrayUnpickler(_Bounded(stream, CAP), encoding="bytes").load(), sizes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a complete gzip file ({error})") from None
    except Exception as error:  # noqa: BLE001  # hostile bytes can raise anything
        raise DataError(f"{path}: not the tutorial's pickle ({type(error).__name__}: {error!s:.200})") from None


class _Dtype:
    """Replaces numpy.dtype: the code of a plain number."""

    def __init__(self, code: Any, *_options: Any) -> None:
        if not (isinstance(code, bytes) and code in NUMBERS):
            raise DataError("the pickle holds an array of something else than numbers")
        self.plain = np.dtype(code.decode())

    def __setstate__(self, state: Any) -> None:
        self.plain = self.plain.newbyteorder(">" if state[1] == b">" else "<")


class _Array:
    """Replaces numpy's _reconstruct: bytes that become an array of plain numbers."""

    def __init__(self, *_empty: Any) -> None:
        self.array = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, content = state
        self.array = np.frombuffer(content, dtype.plain).reshape(shape, order="F" if fortran else "C")


# The exact pairs that a Python 2 pickle of arrays names, nothing by prefix, nothing split at dots, and what replaces
# them. Not numpy's own: a dtype's __setstate__ clears any flag, and then bytes are taken for object pointers.
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): None,
    ("numpy", "dtype"): _Dtype,
}


class _ArrayUnpickler(pickle._Unpickler):
    """The unpickler written in Python: its opcodes can be chosen, and its memo is a dict.

    The memo of the one in C grows to any index that the file names, and one byte can make an object of seventy.
    """

    dispatch: ClassVar = {code: pickle._Unpickler.dispatch[code] for code in OPCODES}

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return ALLOWED[module_name, global_name]
        except KeyError:
            raise DataError(f"the pickle names {module_name:.80}.{global_name:.80}, which is refused") from None


class _Bounded:
    """A stream that raises an error before it fills the memory."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, cap: int) -> None:
        self.stream, self.left, self.reads = stream, cap, 0

    def read(self, size: int = -1) -> bytes:
        return self._count(self.stream.read(size if 0 <= size <= self.left else self.left + 1))

    def readline(self) -> bytes:
        return self._count(self.stream.readline(self.left + 1))

    def _count(self, chunk: bytes) -> bytes:
        self.reads += 1
        if self.reads > READS:
            raise DataError(f"more than {READS:,} parts; stopped")
        self.left -= len(chunk)
        if self.left < 0:
            raise DataError(f"more than {CAP >> 20} MiB when unpacked; stopped")
        return chunk


def _pairs(content: Any, sizes: Sequence[int]) -> list[Pair]:
    if not (isinstance(content, tuple) and len(content) == len(sizes)):
        raise DataError("expected three pairs (training, validation, test)")
    return [_pair(pair, size) for pair, size in zip(content, sizes, strict=True)]


def _pair(pair: Any, size: int) -> Pair:
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, _Array) for part in pair)):
        raise DataError("expected pairs of arrays (pixels, labels)")
    x, y = (part.array for part in pair)
    if x.dtype.kind != "f" or y.dtype.kind not in "iu":
        raise DataError(f"expected float pixels and whole-number labels, got {x.dtype} and {y.dtype}")
    if x.shape != (size, FEATURES) or y.shape != (size,):
        raise DataError(f"expected {(size, FEATURES)} pixels and {(size,)} labels, got {x.shape} and {y.shape}")
    if not np.isfinite(x).all():
        raise DataError("pixels that are not finite")
    if y.min() < 0 or y.max() > 9:
        raise DataError(f"labels from {y.min()} to {y.max()}; digits are 0 to 9")
    scaled = x * 256
    pixels = scaled.astype(np.uint8) if scaled.min() >= 0 and scaled.max() <= 255 else None
    if pixels is None or not np.array_equal(pixels, scaled):
        raise DataError("pixels that are not a whole number of 256ths below 1")
    return pixels, y.astype(np.uint8)
