"""A user's own .npz: any pictures, labels or real targets, split as it says; each bad file with its message."""

from __future__ import annotations

import io
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.components.datasets.arrays import arrays
from experiments.data.stratify import stratified
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


def test_a_folder_of_npy_files_is_read_as_one_file_of_them_and_stays_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, load = list[Any](), np.load

    def kept(*given: Any, **options: Any) -> Any:
        read.append(load(*given, **options))
        return read[-1]

    monkeypatch.setattr(np, "load", kept)
    content = {"x": X, "y": Y, "x_valid": X[:9], "y_valid": Y[:9]}
    (tmp_path / "folder").mkdir()
    for name, array in content.items():
        np.save(tmp_path / "folder" / f"{name}.npy", array)
    splits, whole = arrays(path=str(tmp_path / "folder")), arrays(path=save(tmp_path / "own.npz", **content))
    assert splits.spec.digest == whole.spec.digest
    mapped = [array for array in read if isinstance(array, np.memmap)]
    assert any(np.shares_memory(array, splits.train.tensors[0].numpy()) for array in mapped)


def test_a_folder_without_arrays_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a folder without \.npy files; np\.save writes x\.npy and y\.npy"):
        arrays(path=str(tmp_path))


ONE_HOT = np.eye(3, dtype=np.int64)[Y]
CONTENTS: dict[str, tuple[dict[str, Any], str]] = {
    "no y": ({"x": X, "z": Y}, "y missing; it should hold x and y, .*; it holds x, z"),
    "no y_valid": ({"x": X, "y": Y, "x_valid": X}, "y_valid missing"),
    "no x_test": ({"x": X, "y": Y, "y_test": Y}, "x_test missing"),
    "rows": ({"x": X, "y": Y[:-1]}, "x has 60 rows and y has 59"),
    "test rows": ({"x": X, "y": Y, "x_test": X, "y_test": Y[:-1]}, "the test split has 60 rows in x and 59 in y"),
    "one row": ({"x": X[:1], "y": Y[:1]}, "x has 1 rows; a training and a validation split need two"),
    "a class a row": ({"x": X[:3], "y": np.arange(3)}, "the valid split has no rows"),
    "nan": ({"x": X * np.nan, "y": Y}, "x holds values that are not finite"),
    "infinite y": ({"x": X, "y": Y + np.inf}, "y holds values that are not finite"),
    "strings": ({"x": np.array(["a"] * 60), "y": Y}, r"x holds <U1 of the shape \(60,\), not rows of numbers"),
    "text and numbers": (
        {"x": X, "y": Y, "x_valid": X, "y_valid": np.array(["a"] * 60)},
        "y and y_valid hold text and",
    ),
    "an unknown name": (
        {"x": X, "y": np.array(["cat", "dog", "cow"])[Y], "labels": np.array(["cat", "dog"])},
        "y holds 'cow', which is not among the labels cat, dog",
    ),
    "too few names": ({"x": X, "y": Y, "labels": np.array(["cat", "dog"])}, "y holds the label 2; the labels of 2 "),
    "two for x": ({"images": X, "data": X, "y": Y}, "images and data can both be x; save one of them as x"),
    "no rows": ({"x": X[:0], "y": Y[:0]}, "x has 0 rows; a training and a validation split need two"),
    "complex": ({"x": X + 0j, "y": Y}, "x holds complex64 .* not rows of numbers"),
    "no rows at all": ({"x": np.float32(1), "y": np.int64(1)}, r"x holds float32 of the shape \(\), not rows"),
    "several labels": (
        {"x": X, "y": ONE_HOT * 2},
        r"y holds int64 of the shape \(60, 3\); labels are one a row, or one-hot; dataset\.targets=reals",
    ),
    "negative": ({"x": X, "y": Y - 1}, "y holds the label -1; labels start at 0"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_content_that_does_not_fit_is_told_with_the_file(kind: str, file: Path) -> None:
    content, reason = CONTENTS[kind]
    with pytest.raises(DataError, match=rf"dataset\.path=.*own\.npz: .*{reason}"):
        arrays(path=save(file, **content))


def test_another_shape_than_the_rows_have_is_told(file: Path) -> None:
    with pytest.raises(DataError, match=r"x has the shape \(60, 17, 23\); dataset\.shape=\[1, 8, 8\] needs 64 numbers"):
        arrays(path=save(file, x=X, y=Y), shape=[1, 8, 8])


@pytest.mark.parametrize("kind", ["objects", "text"])
def test_objects_are_never_unpickled_and_the_remedy_is_told(kind: str, file: Path) -> None:
    y = np.array([{} if kind == "objects" else "cat"] * 60, dtype=object)
    with pytest.raises(DataError, match=r"not an \.npz of plain arrays .*; save text as y\.astype\(str\)"):
        arrays(path=save(file, x=X, y=y))


def labels_of(splits: Any) -> list[int]:
    """Return the labels of all rows, the training rows' first."""
    return [int(label) for split in (splits.train, splits.valid) for label in split.tensors[1]]


def expected(numbers: Any) -> list[int]:
    """Return what `labels_of` returns where a file holds these numbers as plain labels."""
    inside, outside = stratified(np.asarray(numbers), fraction=0.2, seed=0)
    return [*np.asarray(numbers)[inside].tolist(), *np.asarray(numbers)[outside].tolist()]


ANIMALS = np.array(["cow", "ant", "bee"])[Y]
SAME = {  # as plain labels, and the names of the classes
    "from 1": (Y + 1, Y, ("1", "2", "3")),
    "from 1 as bytes": ((Y + 1).astype(np.uint8), Y, ("1", "2", "3")),
    "text": (ANIMALS, np.array([2, 0, 1])[Y], ("ant", "bee", "cow")),
    "bytes of text": (ANIMALS.astype("S"), np.array([2, 0, 1])[Y], ("ant", "bee", "cow")),
    "a column": (Y[:, None], Y, ()),
    "a column of text": (ANIMALS[:, None], np.array([2, 0, 1])[Y], ("ant", "bee", "cow")),
    "one-hot": (ONE_HOT, Y, ()),
    "one-hot of true and false": (ONE_HOT.astype(bool), Y, ()),
}


@pytest.mark.parametrize("kind", SAME)
def test_labels_in_any_common_form_are_classes(kind: str, file: Path) -> None:
    y, plain, names = SAME[kind]
    splits = arrays(path=save(file, x=X, y=y))
    assert (splits.spec.classes, splits.spec.outputs, splits.spec.labels) == (True, 3, names)
    assert labels_of(splits) == expected(plain)


@pytest.mark.parametrize("y", [Y.astype(float), ONE_HOT.astype(np.float32)])
def test_floats_are_labels_where_these_are_asked_for(y: Any, file: Path) -> None:
    assert labels_of(arrays(path=save(file, x=X, y=y), targets="labels")) == expected(Y)


def test_whole_floats_are_real_targets_with_a_warning(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert not arrays(path=save(file, x=X, y=Y.astype(float))).spec.classes
    assert "y holds whole numbers as floats: real targets, unless dataset.targets=labels" in caplog.text


def test_whole_numbers_are_real_targets_where_these_are_asked_for(file: Path) -> None:
    spec = arrays(path=save(file, x=X, y=Y), targets="reals").spec
    assert (spec.classes, spec.outputs) == (False, 1)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_numbers_that_are_not_whole_are_no_labels(value: float, file: Path) -> None:
    with pytest.raises(DataError, match="y holds numbers that are not whole; dataset.targets=labels"):
        arrays(path=save(file, x=X, y=Y + value), targets="labels")


@pytest.mark.parametrize("y", [Y, Y + 1, np.array(["cat", "ant", "bee"])[Y]])
def test_the_file_may_name_the_classes_in_its_own_order(y: Any, file: Path) -> None:
    splits = arrays(path=save(file, x=X, y=y, labels=np.array(["cat", "ant", "bee"])))
    assert splits.spec.labels == ("cat", "ant", "bee")
    assert labels_of(splits) == expected(Y)


def test_a_class_that_is_named_and_has_no_row_is_warned_of(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert arrays(path=save(file, x=X, y=Y, labels=np.array(["a", "b", "c", "d"]))).spec.outputs == 4
    assert "no training row has the class d" in caplog.text
    arrays(path=save(file, x=X, y=Y + 2))
    assert "no training row has the class 0, 1" in caplog.text


def test_a_single_class_is_warned_of(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays(path=save(file, x=X, y=Y * 0))
    assert "y holds a single class, so there is nothing to learn" in caplog.text


COLOURED = np.stack([X, X + 1, X + 2], 1)


@pytest.mark.parametrize("layout", ["auto", "channels_last"])
def test_colours_that_are_last_are_put_first(layout: Any, file: Path) -> None:
    last = arrays(path=save(file, x=np.moveaxis(COLOURED, 1, 3), y=Y), layout=layout)
    first = arrays(path=save(file, x=COLOURED, y=Y))
    assert last.spec.shape == first.spec.shape == (3, 17, 23)
    assert torch.equal(last.train.tensors[0], first.train.tensors[0])


def test_a_layout_that_is_asked_for_is_kept(file: Path) -> None:
    path = save(file, x=np.moveaxis(COLOURED, 1, 3), y=Y)
    assert arrays(path=path, layout="channels_first").spec.shape == (17, 23, 3)


@pytest.mark.parametrize(("layout", "axis"), [("auto", 1), ("channels_last", 3)])
def test_flat_rows_get_the_shape_that_is_given(layout: Any, axis: int, file: Path) -> None:
    flat = np.moveaxis(COLOURED, 1, axis).reshape(60, -1)
    splits = arrays(path=save(file, x=flat, y=Y), shape=[3, 17, 23], layout=layout)
    assert splits.spec.shape == (3, 17, 23)
    assert torch.equal(splits.train.tensors[0], arrays(path=save(file, x=COLOURED, y=Y)).train.tensors[0])


@pytest.mark.parametrize(
    "names",
    [("X", "Y"), ("x_train", "y_train"), ("images", "labels"), ("train_images", "train_labels"), ("data", "target")],
)
def test_common_names_of_x_and_y_are_read_and_told(
    names: tuple[str, str], file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "experiments")
    splits = arrays(path=save(file, **dict(zip(names, (X, Y), strict=True))))
    assert labels_of(splits) == expected(Y)
    assert f"x is {names[0]!r}; y is {names[1]!r}" in caplog.text


def test_common_names_of_the_other_splits_are_read(file: Path) -> None:
    content = {"x_train": X, "y_train": Y, "val_images": X[:9], "val_labels": Y[:9], "x_test": X[:5], "y_test": Y[:5]}
    assert arrays(path=save(file, **content)).spec.sizes == {"train": 60, "valid": 9, "test": 5}


@pytest.mark.parametrize(
    ("x", "warned"),
    [
        ((X * 10).round().astype(np.int64), True),
        (np.full_like(X, 240), True),
        (X * 100, True),
        (np.full(X.shape, 240, np.uint16), True),
        (np.full(X.shape, 240, np.uint8), False),
        (X, False),
        (X > 0, False),
    ],
)
def test_pixels_that_are_neither_bytes_nor_scaled_are_warned_of(
    x: Any, warned: bool, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrays(path=save(file, x=x, y=Y))
    assert ("taken as they are: divide x, or save pixels as uint8" in caplog.text) is warned


def test_one_line_tells_what_the_data_was_read_as(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "experiments")
    path = save(file, x=np.full((60, 8, 9, 3), 7, np.uint8), y=Y + 1)
    arrays(path=path)
    assert caplog.messages == [
        f"{path}: images of 3x8x9, uint8 pixels / 256; 3 classes (1, 2, 3); "
        "x (60, 8, 9, 3) has its channels last (if not: dataset.layout=channels_first)"
    ]


def test_text_in_the_place_of_an_array_is_told(file: Path) -> None:
    file.write_bytes(archive(x=b"text", y=b"text"))
    with pytest.raises(DataError, match=r"x holds \|S4 of the shape \(\), not rows of numbers"):
        arrays(path=str(file))


def test_flat_rows_are_rows_of_numbers_and_a_square_is_told(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    spec = arrays(path=save(file, x=np.zeros((60, 64), np.float32), y=Y)).spec
    assert spec.shape == (64,)
    assert "rows of numbers; if they are images: dataset.shape=[1,8,8]" in caplog.text


def test_whole_numbers_in_flat_rows_stay_whole(file: Path) -> None:
    x = np.arange(60 * 5).reshape(60, 5) + 2**40
    splits = arrays(path=save(file, x=x, y=Y))
    assert splits.spec.dtype == "int64" and int(splits.train.given_as("tokens").floats()[0].min()) >= 2**40
