"""`dataset=image_folder`: pictures in class folders, their sizes, splits and the commonest mistakes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import experiments
from experiments.data import images
from experiments.data.splits import Splits
from experiments.errors import DataError
from experiments.runs.evaluation import evaluate
from experiments.runs.reading import predict
from experiments.training import build


def picture(path: Path, size: tuple[int, int] = (8, 6), colour: Any = None, **options: Any) -> Path:
    """Save noise, or one colour, of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(str(path))).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    (Image.fromarray(noise) if colour is None else Image.new("RGB", size, colour)).save(path, **options)
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Ten cats and five dogs."""
    for name, count in (("dog", 5), ("cat", 10)):
        for number in range(count):
            picture(tmp_path / "pets" / name / f"{number}.png", colour=(number, 200 * (name == "dog"), 7))
    return tmp_path / "pets"


def load(root: Path, **settings: Any) -> Splits:
    build.forget_dataset()
    cache = str(root.parent / "cache")
    return build.load_dataset({"name": "image_folder", "root": str(root), "cache": cache, **settings})


def refused(root: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as error:
        load(root, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_folders_are_classes_and_a_fifth_of_each_is_for_validation(pets: Path) -> None:
    splits = load(pets)
    assert splits.spec.labels == ("cat", "dog") and splits.spec.shape == (3, 6, 8)
    assert splits.train.tensors[1].bincount().tolist() == [8, 4]
    assert splits.valid.tensors[1].bincount().tolist() == [2, 1]


def test_rows_are_the_pixels_of_the_files(pets: Path) -> None:
    splits = load(pets)
    rows = torch.cat([splits.train.tensors[0], splits.valid.tensors[0]])
    files = [np.asarray(Image.open(path)).transpose(2, 0, 1).ravel() for path in pets.glob("*/*.png")]
    assert rows.dtype == torch.uint8
    assert sorted(map(bytes, rows.numpy())) == sorted(map(bytes, files))


@pytest.mark.parametrize("name", ["valid", "val", "validation", "Val"])
def test_split_folders_are_splits(name: str, tmp_path: Path) -> None:
    for part, count in (("train", 3), (name, 2), ("test", 1)):
        for number in range(count):
            for label in "ab":
                picture(tmp_path / "x" / part / label / f"{number}.png")
    splits = load(tmp_path / "x")
    assert dict(splits.spec.sizes) == {"train": 6, "valid": 4, "test": 2}
    assert splits.test is not None and splits.test.tensors[1].tolist() == [0, 1]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "bus"):
        picture(tmp_path / "x" / name / "1.png"), picture(tmp_path / "x" / name / "2.png")
    assert load(tmp_path / "x").spec.labels == ("bus", "train")


def test_the_content_identifies_the_data_and_not_its_place(pets: Path, tmp_path: Path) -> None:
    digest = load(pets).spec.digest
    moved = pets.rename(tmp_path / "animals")
    (moved / "cat" / "0.png").touch()
    assert load(moved).spec.digest == digest
    picture(moved / "cat" / "0.png", colour="red")
    assert load(moved).spec.digest != digest


def test_a_larger_picture_is_resized_by_its_shorter_side_and_its_middle_is_cut_out(tmp_path: Path) -> None:
    wide = Image.new("RGB", (400, 100), "red")
    wide.paste("blue", (150, 0, 250, 100))  # the middle square
    for label in "ab":
        (tmp_path / "x" / label).mkdir(parents=True)
        for name in "12":
            wide.save(tmp_path / "x" / label / f"{name}.png")
    splits = load(tmp_path / "x", size=10)
    x = splits.train.tensors[0].reshape(-1, 3, 10, 10)
    assert splits.spec.shape == (3, 10, 10)
    assert x[0, :, 5, 1:9].T.tolist() == [[0, 0, 255]] * 8


def test_a_cameras_rotation_is_undone_and_grey_has_one_channel(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for label in "ab":
        picture(tmp_path / "x" / label / "1.jpg", (8, 6), exif=turned)
        picture(tmp_path / "x" / label / "2.png", (6, 8))
    assert load(tmp_path / "x", mode="L").spec.shape == (1, 8, 6)


def test_other_files_are_ignored(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pets / ".hidden").mkdir()
    for name in (".DS_Store", "Thumbs.db", "cat/.DS_Store", "cat/Thumbs.db", "cat/._0.png", "readme.txt", "cat/a.txt"):
        (pets / name).write_text("no picture")
    with caplog.at_level(logging.WARNING):
        assert sum(load(pets).spec.sizes.values()) == 15
    assert "1 other files are not read, such as a.txt" in caplog.text and "Thumbs" not in caplog.text


def test_several_sizes_are_refused_with_the_setting(pets: Path) -> None:
    picture(pets / "dog" / "9.png", (5, 5))
    told = refused(pets)
    assert "(6x8)" in told and "(5x5)" in told and "dataset.size=[6,8]" in told
    assert load(pets, size=[6, 8]).spec.shape == (3, 6, 8)


@pytest.mark.parametrize("content", [b"", b"<html>", "cut"])
def test_a_damaged_file_is_named_and_may_be_left_out(
    content: bytes | str, pets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = picture(pets / "cat" / "3.png").read_bytes()
    (pets / "cat" / "3.png").write_bytes(content if isinstance(content, bytes) else whole[: len(whole) // 2])
    told = refused(pets)
    assert "3.png: " in told and "dataset.skip_damaged=true" in told
    assert "is damaged" not in caplog.text
    for _ in range(2):  # from the files, and from the cache
        caplog.clear()
        splits = load(pets, skip_damaged=True)
        assert sum(splits.spec.sizes.values()) == 14
        assert "1 of 15 images are damaged and left out" in caplog.text


def flat(root: Path) -> None:
    picture(root / "a.png")


def flat_in_train(root: Path) -> None:
    picture(root / "train" / "a.png"), picture(root / "valid" / "a.png")


def one_class(root: Path) -> None:
    picture(root / "cat" / "a.png")


def empty_class(root: Path) -> None:
    picture(root / "cat" / "a.png")
    (root / "dog").mkdir()


def new_in_valid(root: Path) -> None:
    for name in ("train/cat", "train/dog", "valid/cat", "valid/dogs"):
        picture(root / name / "a.png")


def two_valids(root: Path) -> None:
    for name in ("train/cat", "val/cat", "valid/cat"):
        picture(root / name / "a.png")


def no_train(root: Path) -> None:
    picture(root / "val" / "cat" / "a.png"), picture(root / "test" / "cat" / "a.png")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.mkdir(), "should have one for each class"),
        (flat, "1 images such as a.png are in .* a folder of its class"),
        (flat_in_train, "such as a.png are in .*(train|valid) itself"),
        (one_class, "cat is the only class"),
        (empty_class, "dog has no images"),
        (new_in_valid, "valid has the class dogs, train has not; did you mean 'dog'"),
        (two_valids, "keep one of them"),
        (no_train, "without train"),
    ],
)
def test_common_mistakes_are_one_line(make: Any, told: str, tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(DataError, match=f"dataset.root=.*{told}"):
        load(tmp_path / "x")


def test_from_nothing_to_evaluation_and_prediction(pets: Path, tmp_path: Path) -> None:
    words = ["dataset=image_folder", f"dataset.root={pets}", f"dataset.cache={tmp_path / 'cache'}", "dataset.size=16"]
    quiet = ["tracking=none", "figures=false", "device=cpu", f"output_root={tmp_path / 'outputs'}"]
    result = experiments.run([*words, *quiet, "model=mlp", "optim=adam", "epochs=3"])
    assert result.folder is not None
    assert evaluate(result.folder)["valid/loss"] == result.history[-1]["valid/loss"]
    path = pets / "dog" / "1.png"
    (found,) = predict(result.folder, [path])
    rows = torch.cat([load(pets, size=16).train.tensors[0], load(pets, size=16).valid.tensors[0]])
    assert (rows == torch.from_numpy(found.seen.reshape(1, -1))).all(dim=1).any()  # the very row that was trained on
    assert images.read(path, 3).size == (8, 6) and found.label == "dog"
