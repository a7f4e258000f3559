"""Predictions for image files where a dataset's rows are no pixels from 0 to 1: prepared by it, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import experiments
from experiments.config.registry import register
from experiments.data import preprocess
from experiments.data.splits import Splits
from experiments.errors import ConfigError, DataError
from experiments.runs.reading import predict
from experiments.tracking import journal

MEAN, DEVIATION = 0.45, 0.22


def pixels(label: int, seed: int) -> Any:
    """Return a dark or a light image (6, 6, 3) with one very light and one very dark pixel."""
    image = np.random.default_rng(seed).integers(0, 90, (6, 6, 3)).astype(np.uint8) + 150 * label
    image[0, 0], image[5, 5] = 255, 0
    return image.astype(np.uint8)


def normalised(image: Any, _data: Any = None) -> torch.Tensor:
    """Return an image as torchvision's ToTensor and Normalize make it."""
    return (torch.from_numpy(np.asarray(image).transpose(2, 0, 1) / 255).float() - MEAN) / DEVIATION


class Photos:
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return normalised(pixels(index % 2, index)), index % 2


@pytest.fixture
def dataset() -> Iterator[Callable[..., None]]:
    """Register the photos as `photos`."""

    def make(**metadata: Any) -> None:
        @register.dataset("photos", **metadata)
        def photos() -> dict[str, Any]:
            return {"train": Photos(), "valid": Photos(), "classes": 2, "labels": ["dark", "light"]}

    yield make
    register.dataset._components.pop("photos", None)


def trained(folder: Path, *words: str) -> Path:
    quiet = ["tracking=none", "figures=false", "device=cpu", f"output_root={folder / 'outputs'}"]
    result = experiments.run(["dataset=photos", "model=mlp", "optim=adam", "epochs=5", *quiet, *words])
    assert result.folder is not None
    return result.folder


def files(folder: Path) -> list[Path]:
    paths = [folder / f"{label}-{seed}.png" for label in (0, 1) for seed in range(50, 55)]
    for path in paths:
        label, seed = map(int, path.stem.split("-"))
        Image.fromarray(pixels(label, seed)).save(path)
    return paths


@pytest.mark.parametrize("loader", ["in_memory", "dataloader"])
def test_rows_that_are_normalised_are_refused(loader: str, dataset: Callable[..., None], tmp_path: Path) -> None:
    dataset()
    folder = trained(tmp_path, f"loader={loader}")
    with pytest.raises(ConfigError, match=r"from -2\.045 to 2\.5, an image file 0 to 1; register .* prepare=function"):
        predict(folder, files(tmp_path))


def test_with_its_own_preparation_they_are_read_as_they_were_trained(
    dataset: Callable[..., None], tmp_path: Path
) -> None:
    dataset(prepare=normalised)
    folder, paths = trained(tmp_path), files(tmp_path)
    found = predict(folder, paths)
    assert [each.label for each in found] == ["dark"] * 5 + ["light"] * 5
    x = torch.stack([normalised(Image.open(path)) for path in paths])
    model = experiments.load(folder)
    expected = model(x.flatten(1)).softmax(dim=1)
    assert torch.allclose(torch.tensor([each.outputs for each in found]), expected)


def test_a_run_from_before_is_read_as_before(dataset: Callable[..., None], tmp_path: Path) -> None:
    dataset()
    folder = trained(tmp_path)
    first, *rest = (folder / journal.FILE).read_text().splitlines(keepends=True)
    start = json.loads(first)
    del start["data"]["values"]
    (folder / journal.FILE).write_text("".join([json.dumps(start) + "\n", *rest]))
    assert len(predict(folder, files(tmp_path))) == 10


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (
            lambda image, data: np.asarray(image),
            r"made uint8 of the shape \(6, 6, 3\); a row has the shape \(3, 6, 6\)",
        ),
        (lambda image: image, "failed: .*positional argument"),
        (lambda image, data: image.nothing, "failed: 'nothing'|failed: .*nothing"),
    ],
)
def test_a_preparation_that_fails_is_one_line(
    function: Any, told: str, dataset: Callable[..., None], tmp_path: Path
) -> None:
    dataset(prepare=function)
    with pytest.raises(DataError, match=f"prepare= of dataset photos {told}"):
        predict(trained(tmp_path), files(tmp_path)[:1])


@pytest.mark.parametrize(
    ("x", "refused"),
    [
        (np.linspace(0, 1, 80), False),
        (np.linspace(0, 1, 80) / 255, True),
        (np.linspace(0, 255, 80), True),
        (np.linspace(-1, 1, 80), True),
        (np.linspace(0, 255, 80).astype(np.uint8), False),
        (np.arange(80, dtype=np.uint8) % 2, True),
    ],
)
def test_a_range_that_images_have_not_is_refused(x: Any, refused: bool) -> None:
    rows = x.reshape(5, 1, 4, 4)
    splits = Splits.of(train=(rows, [0, 1, 0, 1, 0]), valid=(rows, [0, 1, 0, 1, 0]))
    found = preprocess.values(splits.train)
    assert found is not None
    if refused:
        with pytest.raises(ConfigError, match="an image file 0 to 1"):
            preprocess.require_pictures(splits.spec.shape, found)
    else:
        preprocess.require_pictures(splits.spec.shape, found)
