"""MNIST's pickle: read without trust, refused unless it is data, accepted for its content alone."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.components.datasets import mnist
from experiments.data import mnist_pickle
from experiments.data.sources import PACKED
from experiments.data.splits import Splits
from experiments.errors import DataError
from tests.support import small_mnist
from tests.support.places import MNIST, needs_mnist
from tests.support.small_mnist import Raw, array, call, opcodes, packed, pairs


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, workplace: Path) -> Path:
    """80 digits stand for MNIST; the test's folder holds its mnist.pkl.gz."""
    small_mnist.install(monkeypatch.setattr)
    (workplace / PACKED).write_bytes(packed())
    return workplace


def load(source: str = PACKED) -> Splits:
    return mnist.mnist(source=source)


def refused(content: bytes) -> str:
    """What is said of a mnist.pkl.gz; and nothing of it is kept."""
    Path("bad.gz").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load("bad.gz")
    assert not Path("data").exists()
    return str(caught.value)


MARK = "open('marker', 'w').close()"
STORAGE = io.BytesIO()
torch.save([1.0], STORAGE)

# Each payload: the global it names and the opcodes that call it.
PAYLOADS = {
    "os.system": call("os", "system", "touch marker"),
    "posix.system": call("posix", "system", "touch marker"),
    "builtins.eval": call("builtins", "eval", MARK),
    "__builtin__.eval": call("__builtin__", "eval", MARK),
    "builtins.exec": call("builtins", "exec", MARK),
    "subprocess.Popen": call("subprocess", "Popen", (b"touch", b"marker")),
    "numpy.load": call("numpy", "load", "bad.gz"),
    "numpy.fromfile": call("numpy", "fromfile", "bad.gz"),
    "numpy.core.multiarray.fromfile": call("numpy.core.multiarray", "fromfile", "bad.gz"),
    "numpy.core.multiarray._reconstruct": call("numpy", "core.multiarray._reconstruct", 0),
    "numpy.ndarray.tofile": call("numpy", "ndarray.tofile", "marker"),
    "numpy._core.multiarray._reconstruct": call("numpy._core.multiarray", "_reconstruct", 0),
    "torch.storage._load_from_bytes": call("torch.storage", "_load_from_bytes", STORAGE.getvalue()),
    "_codecs.encode": call("_codecs", "encode", "x", "latin1"),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_global_other_than_the_three_is_refused_by_its_name(name: str, small: Path) -> None:
    assert f"the pickle names {name}, which is refused" in refused(packed(PAYLOADS[name]))
    assert not (small / "marker").exists()


@pytest.mark.process
@pytest.mark.parametrize("name", ["os.system", "posix.system", "builtins.eval", "builtins.exec"])
def test_the_payloads_would_work_elsewhere(name: str, small: Path) -> None:
    pickle.loads(b"\x80\x02" + PAYLOADS[name] + b".")
    assert (small / "marker").exists()


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch marker",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_payload_is_refused_in_every_protocol(protocol: int, small: Path) -> None:
    assert "bad.gz" in refused(gzip.compress(pickle.dumps(Evil(), protocol)))
    assert not (small / "marker").exists()


def test_a_global_inside_an_object_array_is_refused(small: Path) -> None:
    items = Raw(b"]" + PAYLOADS["os.system"] + b"a")
    assert "something else than numbers" in refused(packed(array(b"O8", (1,), items, order=b"|")))
    assert not (small / "marker").exists()


def test_bytes_are_never_taken_for_object_pointers(small: Path) -> None:
    """A script that unpickles such a file would: numpy does so where a pickle clears the dtype's flags."""
    pointers = array(b"O8", (1,), b"A" * 8, order=b"|")
    assert "something else than numbers" in refused(packed(call("numpy", "ndarray", pointers)))


HOSTILE = {
    "not gzip": (b"plain", "not a complete gzip file"),
    "cut off": (small_mnist.packed()[:-100], "not a complete gzip file"),
    "a flipped bit": (packed()[:5000] + bytes([packed()[5000] ^ 1]) + packed()[5001:], "bad.gz"),
    "empty": (gzip.compress(b""), "not the tutorial's pickle"),
    "text": (gzip.compress(b"hello"), "not the tutorial's pickle"),
    "a list": (gzip.compress(b"\x80\x02]."), "not the tutorial's pickle"),
    "persistent": (gzip.compress(b"\x80\x02U\x01bQ."), "not the tutorial's pickle"),
    "no arrays": (packed(Raw(b"cnumpy\nndarray\n(tR")), "expected the 6 arrays of three pairs (pixels, labels), got 0"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_such_file_is_told_so(kind: str, small: Path) -> None:
    content, reason = HOSTILE[kind]
    assert reason in refused(content)


BOMBS = {
    "zeros": (opcodes(b"\0" * (10 << 20)), "more than 1 MiB when unpacked; stopped"),
    "many small objects": (b")" * 1_000_000, "more than 10,000 parts; stopped"),
    "many lists": (b"]" * 1_000_000, "not the tutorial's pickle"),
    "a sparse memo": (b"Nr\xff\xff\xff\x0f", "expected the 6 arrays"),
    "a long announcement": (b"T\xff\xff\xff\x7fabc", "not the tutorial's pickle"),
    "a frame": (b"\x95" + b"\xff" * 7 + b"\0", "not the tutorial's pickle"),
    "a bytearray": (b"\x96\0\0\0\x80\0\0\0\0", "not the tutorial's pickle"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_cannot_fill_the_memory(kind: str, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_pickle, "CAP", 1 << 20)
    body, reason = BOMBS[kind]
    content = gzip.compress(b"\x80\x02" + body + b".")
    tracemalloc.start()
    try:
        assert reason in refused(content)
        assert tracemalloc.get_traced_memory()[1] < 6 << 20
    finally:
        tracemalloc.stop()


def changed(part: int, item: int, index: Any, value: Any) -> tuple[Any, ...]:
    """The three pairs with one number changed."""
    made = pairs()
    made[part][item][index] = value
    return made


TRAIN, VALID, TEST = pairs()
SWAPPED = TRAIN[0][[1, 0, *range(2, 50)]]
WRONG = {
    "two pairs": ((TRAIN, VALID), r"expected the 6 arrays of three pairs \(pixels, labels\), got 4"),
    "a pair of three": (((*TRAIN, TRAIN[1]), VALID, TEST), r"expected the 6 arrays .*, got 7"),
    "no arrays": (((1, 2), VALID, TEST), r"expected the 6 arrays .*, got 4"),
    "rows": ((VALID, TRAIN, TEST), r"expected 50 rows of 784 pixels, got 31,360 bytes"),
    "columns": (((TRAIN[0][:, 1:], TRAIN[1]), VALID, TEST), r"expected 50 rows of 784 pixels, got 156,600 bytes"),
    "object dtype": (((TRAIN[0].astype(object), TRAIN[1]), VALID, TEST), r"something else than numbers"),
    "whole pixels": (((TRAIN[1], TRAIN[1]), VALID, TEST), r"expected 50 rows of 784 pixels, got 400 bytes"),
    "real labels": (((TRAIN[0], TRAIN[0]), VALID, TEST), r"expected 50 rows of 1 labels, got 156,800 bytes"),
    "label 10": (changed(0, 1, 3, 10), r"labels from 0 to 10; digits are 0 to 9"),
    "label -1": (changed(1, 1, 3, -1), r"labels from -1 to 9"),
    "nan": (changed(2, 0, (3, 4), np.nan), r"not a whole number of 256ths below 1"),
    "infinity": (changed(0, 0, (3, 4), np.inf), r"not a whole number of 256ths below 1"),
    "no 256th": (changed(0, 0, (3, 4), 0.001), r"not a whole number of 256ths"),
    "pixel 1": (changed(0, 0, (3, 4), 1.0), r"not a whole number of 256ths below 1"),
    "negative pixel": (changed(0, 0, (3, 4), -1 / 256), r"not a whole number of 256ths"),
    "a label changed": (changed(0, 1, 3, 4), r"train-labels-idx1-ubyte is not mnist's: sha256 \w+, expected \w+"),
    "a test label changed": (changed(2, 1, 3, 4), r"t10k-labels-idx1-ubyte is not mnist's"),
    "a row swapped": (((SWAPPED, TRAIN[1]), VALID, TEST), r"train-images-idx3-ubyte is not mnist's"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_other_content_is_refused_and_the_failed_check_told(kind: str, small: Path) -> None:
    value, reason = WRONG[kind]
    assert re.search(reason, refused(packed(value)))


def test_the_same_content_is_accepted_however_it_is_stored(small: Path) -> None:
    """Another gzip level, big-endian, double precision, bytes as labels."""
    other = tuple((x.astype(np.float64).byteswap(), y.astype(np.uint8)) for x, y in pairs())
    wide = tuple(
        (array(b"f8", x.shape, x.tobytes(), order=b">"), array(b"u1", y.shape, y.tobytes(), b"|")) for x, y in other
    )
    Path("other.gz").write_bytes(packed(wide, level=1))
    assert load("other.gz").spec.sizes == {"train": 50, "valid": 10, "test": 20}


def test_inputs_are_the_files_values_exactly(small: Path) -> None:
    splits = load()
    for split, (x, y) in zip((splits.train, splits.valid, splits.test), pairs(), strict=True):
        assert split is not None
        assert torch.equal(split.floats()[0], torch.from_numpy(x))
        assert torch.equal(split.floats()[1], torch.from_numpy(y))


@pytest.mark.slow
@needs_mnist
def test_the_real_content_is_accepted_whatever_its_packing(workplace: Path) -> None:
    """Packed anew, it is MNIST still, and each value is the one that Python's own unpickler reads."""
    plain = gzip.decompress(MNIST.read_bytes())
    Path("mnist.gz").write_bytes(gzip.compress(plain, 1))
    splits = load("mnist.gz")
    (x, y), _, _ = pickle.loads(plain, encoding="latin1")
    assert splits.spec.sizes == {"train": 50_000, "valid": 10_000, "test": 10_000}
    assert torch.equal(splits.train.floats()[0], torch.from_numpy(x))
    assert torch.equal(splits.train.floats()[1], torch.from_numpy(y))
