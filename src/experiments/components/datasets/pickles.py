"""Reading mnist.pkl.gz without trusting it: a bounded stream, and an unpickler that knows three names."""

from __future__ import annotations

import gzip
import pickle
import zlib
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from experiments.errors import DataError

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

# 70,000 rows of 784 float32 and an int64 label are 220 MB.
CAP = 256 << 20
SIZES = (50_000, 10_000, 10_000)
FEATURES = 784

# What a Python 2 pickle of arrays names; the exact pairs, nothing by prefix, nothing split at dots.
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]  # no public name
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def read_pickle(path: Path) -> list[Pair]:
    """The three pairs (pixels (n, 784), labels (n,)) as bytes; a pixel is the file's value times 256, exactly.

    Raises:
        DataError: it is no such file, or names anything else than arrays.
    """
    try:
        with gzip.open(path, "rb") as stream:
            content = _ArrayUnpickler(_Bounded(stream, CAP), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a complete gzip file ({error})") from None
    except Exception as error:  # noqa: BLE001  # hostile bytes raise whatever they like
        raise DataError(f"{path}: not the tutorial's pickle ({type(error).__name__}: {error})") from None
    try:
        return _pairs(content)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return ALLOWED[module_name, global_name]
        except KeyError:
            raise DataError(f"the pickle names {module_name}.{global_name}, which is refused") from None

    def persistent_load(self, _pid: Any) -> NoReturn:
        raise DataError("the pickle has a persistent id, which is refused")


class _Bounded:
    """A stream that ends in an error instead of filling the memory."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, cap: int) -> None:
        self.stream, self.left = stream, cap

    def read(self, size: int = -1) -> bytes:
        return self._count(self.stream.read(size if 0 <= size <= self.left else self.left + 1))

    def readline(self) -> bytes:
        return self._count(self.stream.readline(self.left + 1))

    def _count(self, chunk: bytes) -> bytes:
        self.left -= len(chunk)
        if self.left < 0:
            raise DataError(f"more than {CAP >> 20} MiB when unpacked; stopped")
        return chunk


def _pairs(content: Any) -> list[Pair]:
    if not (isinstance(content, tuple) and len(content) == len(SIZES)):
        raise DataError("expected three pairs (training, validation, test)")
    return [_pair(pair, size) for pair, size in zip(content, SIZES, strict=True)]


def _pair(pair: Any, size: int) -> Pair:
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(part, np.ndarray) for part in pair)):
        raise DataError("expected pairs of arrays (pixels, labels)")
    x, y = pair
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
