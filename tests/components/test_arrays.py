"""A user's own .npz: any pictures, labels or real targets, split as it says; each bad file with its message."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.components.datasets.arrays import arrays
from experiments.errors import DataError

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((60, 17, 23)).astype(np.float32)
Y = np.repeat([0, 1, 2], [30, 20, 10])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "own.npz"


def save(file: Path, **content: Any) -> str:
    np.savez(file, **content)
    return str(file)


def test_pictures_of_17_by_23_in_3_classes(file: Path) -> None:
    spec = arrays(path=save(file, x=X, y=Y)).spec
    assert (spec.shape, spec.outputs, spec.classes) == ((1, 17, 23), 3, True)
    assert spec.sizes == {"train": 48, "valid": 12}
    assert (spec.name, spec.source) == ("arrays", str(file))


def test_pictures_of_3_channels(file: Path) -> None:
    assert arrays(path=save(file, x=np.stack([X] * 3, 1), y=Y)).spec.shape == (3, 17, 23)


@pytest.mark.parametrize("columns", [(), (1,), (4,)])
def test_real_targets(columns: tuple[int, ...], file: Path) -> None:
    splits = arrays(path=save(file, x=X, y=RANDOM.standard_normal((60, *columns))))
    assert (splits.spec.classes, splits.spec.outputs) == (False, columns[0] if columns else 1)
    assert splits.train.floats()[1].shape == (48, splits.spec.outputs)
    assert splits.train.floats()[1].dtype == torch.float32


def test_the_files_own_splits_are_used(file: Path) -> None:
    path = save(file, x=X[:40], y=Y[:40], x_valid=X[40:50], y_valid=Y[40:50], x_test=X[50:], y_test=Y[50:])
    splits = arrays(path=path, valid_fraction=0.5)
    assert splits.spec.sizes == {"train": 40, "valid": 10, "test": 10}
    assert torch.equal(splits.valid.floats()[0], torch.from_numpy(X[40:50]).flatten(1))


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int16])
def test_the_fraction_is_of_each_class_alike(dtype: Any, file: Path) -> None:
    splits = arrays(path=save(file, x=X, y=Y.astype(dtype)), valid_fraction=0.3)
    assert splits.valid.tensors[1].bincount().tolist() == [9, 6, 3]


def test_true_and_false_are_labels(file: Path) -> None:
    splits = arrays(path=save(file, x=X, y=Y == 0), valid_fraction=0.3)
    assert (splits.spec.classes, splits.spec.outputs) == (True, 2)
    assert splits.valid.tensors[1].bincount().tolist() == [9, 9]


def test_the_seed_decides_the_split(file: Path) -> None:
    path = save(file, x=X, y=Y)
    same, again, other = (arrays(path=path, seed=seed).spec.digest for seed in (1, 1, 2))
    assert same == again
    assert same != other


@pytest.mark.parametrize("real", [True, False])
def test_every_row_lies_in_one_split(real: bool, file: Path) -> None:
    splits = arrays(path=save(file, x=X, y=Y / 2 if real else Y))
    rows = torch.cat([splits.train.floats()[0], splits.valid.floats()[0]])
    assert {row.tobytes() for row in rows.numpy()} == {row.tobytes() for row in X}


def test_a_class_of_one_row_is_trained_on(file: Path) -> None:
    y = Y.copy()
    y[-1] = 3
    splits = arrays(path=save(file, x=X, y=y))
    assert 3 in splits.train.tensors[1]
    assert 3 not in splits.valid.tensors[1]


def test_bytes_are_pixels_over_256(file: Path) -> None:
    pixels = RANDOM.integers(0, 256, (60, 4, 4)).astype(np.uint8)
    splits = arrays(path=save(file, x=pixels, y=Y, x_valid=pixels, y_valid=Y))
    assert torch.equal(splits.train.floats()[0], torch.from_numpy(pixels / np.float32(256)).flatten(1))


@pytest.mark.parametrize("dtype", [">f4", "<f8", ">f8", "<f2", ">i4", "<u2"])
def test_numbers_of_any_width_and_byte_order_are_read(dtype: str, file: Path) -> None:
    values = np.arange(60 * 4).reshape(60, 2, 2)
    splits = arrays(path=save(file, x=values.astype(dtype), y=Y.astype(">i8"), x_valid=values, y_valid=Y))
    assert torch.equal(splits.train.floats()[0], torch.from_numpy(values).float().flatten(1))


def test_other_arrays_of_the_file_are_left_alone(file: Path) -> None:
    path = save(file, x=X, y=Y, names=np.array(["a", "b"]), objects=np.array([{}], dtype=object))
    assert arrays(path=path).spec.outputs == 3


def archive(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as content:
        for name, member in members.items():
            content.writestr(name, member)
    return stream.getvalue()


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, X)
    return stream.getvalue()


def npz(**content: Any) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **content)
    return stream.getvalue()


WHOLE = npz(x=X, y=Y)
FILES = {
    "empty": b"",
    "text": b"x,y\n1,2\n",
    "npy": npy(),
    "pickle": b"\x80\x02N.",
    "cut off": WHOLE[: len(WHOLE) // 2],
    "damaged": WHOLE[:2000] + bytes(100) + WHOLE[2100:],
    "object array": npz(x=np.array([{}, {}], dtype=object), y=np.arange(2)),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_npz_of_plain_arrays_is_told(kind: str, file: Path) -> None:
    file.write_bytes(FILES[kind])
    with pytest.raises(DataError, match=r"dataset\.path=.*own\.npz: not an \.npz of plain arrays"):
        arrays(path=str(file))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.path=.*none\.npz: there is no such file"):
        arrays(path=str(tmp_path / "none.npz"))


ONE_HOT = np.eye(3, dtype=np.int64)[Y]
CONTENTS: dict[str, tuple[dict[str, Any], str]] = {
    "no y": ({"x": X, "z": Y}, "y missing; it should hold x and y, .*; it holds x, z"),
    "no y_valid": ({"x": X, "y": Y, "x_valid": X}, "y_valid missing"),
    "no x_test": ({"x": X, "y": Y, "y_test": Y}, "x_test missing"),
    "rows": ({"x": X, "y": Y[:-1]}, "x has 60 rows and y has 59"),
    "test rows": ({"x": X, "y": Y, "x_test": X, "y_test": Y[:-1]}, "the test split has 60 rows in x and 59 in y"),
    "one row": ({"x": X[:1], "y": Y[:1]}, "x has 1 rows; a training and a validation split need two"),
    "a class a row": ({"x": X[:3], "y": np.arange(3)}, "the valid split has no rows"),
    "flat": ({"x": X.reshape(60, -1), "y": Y}, r"x has the shape \(\d+, 391\); it should be \(n, height, width\)"),
    "nan": ({"x": X * np.nan, "y": Y}, "x holds values that are not finite"),
    "infinite y": ({"x": X, "y": Y + np.inf}, "y holds values that are not finite"),
    "strings": ({"x": X, "y": np.array(["a"] * 60)}, r"y holds <U1 of the shape \(60,\), not rows of numbers"),
    "complex": ({"x": X + 0j, "y": Y}, "x holds complex64 .* not rows of numbers"),
    "no rows at all": ({"x": np.float32(1), "y": np.int64(1)}, r"x holds float32 of the shape \(\), not rows"),
    "one-hot": ({"x": X, "y": ONE_HOT}, r"y holds whole numbers of the shape \(\d+, 3\); labels are one number a row"),
    "negative": ({"x": X, "y": Y - 1}, "y holds the label -1; labels start at 0"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_content_that_does_not_fit_is_told_with_the_file(kind: str, file: Path) -> None:
    content, reason = CONTENTS[kind]
    with pytest.raises(DataError, match=rf"dataset\.path=.*own\.npz: .*{reason}"):
        arrays(path=save(file, **content))


def test_text_in_the_place_of_an_array_is_told(file: Path) -> None:
    file.write_bytes(archive(x=b"text", y=b"text"))
    with pytest.raises(DataError, match=r"x holds \|S4 of the shape \(\), not rows of numbers"):
        arrays(path=str(file))
