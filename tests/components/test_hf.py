"""`dataset=hf`: saved datasets, files and folders of the `datasets` library, their columns and splits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.data.splits import Splits
from experiments.errors import DataError
from experiments.training import build

datasets = pytest.importorskip("datasets")

NAMES = ["dark", "light"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf-cache")


def load(path: Path | str, **settings: Any) -> Splits:
    build.forget_dataset()
    cache = str(path) + "-cache"
    return build.load_dataset({"name": "hf", "path": str(path), "cache": cache, **settings})


def photos(count: int) -> tuple[Any, list[Any]]:
    pixels = [np.full((4, 6, 3), 20 * number, np.uint8) for number in range(count)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    columns = {"image": [Image.fromarray(each) for each in pixels], "label": [number % 2 for number in range(count)]}
    return datasets.Dataset.from_dict(columns, features=features), pixels


def numbers() -> Any:
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    labels = [["no", "yes"][number % 2] for number in range(20)]
    return datasets.Dataset.from_dict({"a": x[:, 0], "b": x[:, 1], "row": x.tolist(), "label": labels})


def test_saved_images_keep_pixels_splits_and_names(tmp_path: Path) -> None:
    train, pixels = photos(8)
    valid, _ = photos(4)
    datasets.DatasetDict({"train": train, "validation": valid}).save_to_disk(tmp_path / "x")
    splits = load(tmp_path / "x")
    assert splits.spec.labels == ("dark", "light") and splits.spec.shape == (3, 4, 6)
    expected = np.stack(pixels).transpose(0, 3, 1, 2).reshape(8, -1)
    assert np.array_equal(splits.train.tensors[0].numpy(), expected)
    assert splits.train.tensors[1].tolist() == [0, 1] * 4 and len(splits.valid) == 4


def test_the_content_identifies_images(tmp_path: Path) -> None:
    train, _ = photos(8)
    train.save_to_disk(tmp_path / "x"), train.save_to_disk(tmp_path / "y")
    assert load(tmp_path / "x").spec.digest == load(tmp_path / "y").spec.digest
    photos(10)[0].save_to_disk(tmp_path / "z")
    assert load(tmp_path / "z").spec.digest != load(tmp_path / "x").spec.digest


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_a_file_of_numbers_is_rows_and_text_labels_are_classes(kind: str, tmp_path: Path) -> None:
    data = numbers().select_columns(["a", "b", "label"])
    getattr(data, f"to_{kind}")(tmp_path / f"x.{kind}")
    splits = load(tmp_path / f"x.{kind}")
    assert splits.spec.labels == ("no", "yes") and splits.spec.shape == (2,)
    assert dict(splits.spec.sizes) == {"train": 16, "valid": 4}
    rows = torch.cat([splits.train.tensors[0], splits.valid.tensors[0]])
    expected = torch.tensor([[a, b] for a, b in zip(data["a"], data["b"], strict=True)])
    assert torch.allclose(rows.sort(dim=0).values, expected.sort(dim=0).values)


def test_columns_may_be_named(tmp_path: Path) -> None:
    numbers().save_to_disk(tmp_path / "x")
    splits = load(tmp_path / "x", x="row", y="a")
    assert not splits.spec.classes and splits.spec.shape == (2,)
    assert load(tmp_path / "x", x=["b", "a"]).spec.shape == (2,)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"x": "rows"}, "dataset.x=rows: no such column; did you mean 'row'"),
        ({"y": "labl"}, "dataset.y=labl: no such column; did you mean 'label'"),
        ({"x": "label", "y": "a"}, "'label' holds text, which dataset=text reads"),
    ],
)
def test_a_wrong_column_is_one_line(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    numbers().save_to_disk(tmp_path / "x")
    with pytest.raises(DataError, match=told):
        load(tmp_path / "x", **settings)


@pytest.mark.parametrize("path", ["nowhere/at-all", "./nowhere", "nowhere.parquet"])
def test_what_is_nowhere_is_one_line_without_a_download(path: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"dataset.path={path}: no such file or folder, nor a name in the local cache"):
        load(path)


def test_without_the_package_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'experiments\[hf\]'"):
        load(tmp_path)


def test_two_names_of_one_split_are_refused(tmp_path: Path) -> None:
    part = datasets.Dataset.from_dict({"x": [[1.0, 2.0]] * 4, "y": [0, 1] * 2})
    datasets.DatasetDict({"train": part, "valid": part, "validation": part}).save_to_disk(tmp_path / "own")
    with pytest.raises(DataError, match="valid and validation are the same split"):
        load(tmp_path / "own")
