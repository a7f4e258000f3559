"""Items of own datasets: Pillow images, and bytes with their channels last."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from experiments.data.splits import Splits
from experiments.errors import DataError


class Items:
    """A map-style dataset of a list."""

    def __init__(self, x: list[Any]) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.x[index], index % 2


def of(x: list[Any], **settings: Any) -> Splits:
    data: Any = Items(x)
    return Splits.of(train=data, valid=data, classes=2, **settings)


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (3, 3, 3), (1, 4, 3)])
def test_pillow_images_are_their_pixels_channels_first(shape: tuple[int, ...]) -> None:
    pixels = noise(2, *shape)
    splits = of([Image.fromarray(each) for each in pixels])
    expected = pixels[:, None] if len(shape) == 2 else pixels.transpose(0, 3, 1, 2)
    assert splits.spec.shape == expected.shape[1:]
    assert np.array_equal(splits.train.tensors[0].numpy().reshape(expected.shape), expected)
    assert next(iter(DataLoader(splits.train.dataset, 2)))[0].shape == expected.shape  # as torch's loader collates them


def test_a_transparent_image_and_one_of_a_palette_have_colours() -> None:
    assert of([Image.new("RGBA", (4, 5)), Image.new("P", (4, 5))]).spec.shape == (3, 5, 4)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_bytes_with_channels_last_are_moved_and_it_is_said(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    pixels = noise(4, 8, 6, 3)
    expected = pixels.transpose(0, 3, 1, 2).reshape(4, -1)
    with caplog.at_level(logging.INFO):
        splits = of([kind(each) for each in pixels])
    assert splits.spec.shape == (3, 8, 6) and np.array_equal(splits.train.tensors[0].numpy(), expected)
    assert "train x (8, 6, 3) has its channels last" in caplog.text
    arrays = Splits.of(train=(kind(pixels), [0, 1, 0, 1]), valid=(kind(pixels), [0, 1, 0, 1]))
    assert arrays.spec.shape == (3, 8, 6) and np.array_equal(arrays.train.tensors[0].numpy(), expected)


@pytest.mark.parametrize("shape", [(3, 8, 3), (1, 8, 3), (8, 8, 5)])
def test_what_may_have_its_channels_first_stays(shape: tuple[int, ...]) -> None:
    pixels = noise(2, *shape)
    assert of([*pixels]).spec.shape == shape
    assert Splits.of(train=(pixels, [0, 1]), valid=(pixels, [0, 1])).spec.shape == shape


def test_a_given_shape_and_floats_are_kept() -> None:
    pixels = noise(2, 8, 6, 3)
    assert np.array_equal(of([*pixels], shape=(8, 6, 3)).train.tensors[0].numpy(), pixels.reshape(2, -1))
    assert of([*pixels.astype(np.float32)]).spec.shape == (8, 6, 3)


def test_small_grey_images_are_no_channels() -> None:
    grey = noise(60, 8, 3)
    assert Splits.of(train=(grey, [0, 1] * 30), valid=(grey, [0, 1] * 30)).spec.shape == (1, 8, 3)


@pytest.mark.parametrize("items", [False, True])
def test_real_numbers_whose_channels_may_be_last_are_told(items: bool, caplog: pytest.LogCaptureFixture) -> None:
    x = np.zeros((4, 8, 6, 3), np.float32)
    splits = of(list(x)) if items else Splits.of(train=(x, np.arange(4) % 2), valid=(x, np.arange(4) % 2))
    assert splits.spec.shape == (8, 6, 3)
    assert "is read as 8 channels; np.moveaxis(x, -1, -3) puts channels first" in caplog.text


def test_a_shape_of_the_same_sizes_in_another_order_is_refused() -> None:
    x = np.zeros((4, 8, 6, 3), np.float32)
    with pytest.raises(DataError, match=r"np.moveaxis"):
        Splits.of(train=(x, np.zeros(4, int)), valid=(x, np.zeros(4, int)), shape=(3, 8, 6))


def test_arrays_that_are_turned_round_are_read() -> None:
    x = np.arange(24.0).reshape(4, 1, 2, 3)
    rows = Splits.of(train=(x[..., ::-1], np.arange(4)), valid=(x, np.arange(4))).train.tensors[0]
    assert np.array_equal(rows.numpy().reshape(x.shape), x[..., ::-1])


def test_places_without_a_label_count_for_no_class() -> None:
    y = np.array([[[0, 1], [1, -100]]])
    part = (np.zeros((1, 1, 2, 2)), y)
    assert Splits.of(train=part, valid=part, classes=3).class_counts == (1, 2, 0)


def test_real_targets_of_known_classes_are_refused() -> None:
    data: Any = [(np.zeros(3), 0.5)] * 4
    with pytest.raises(DataError, match="y holds real numbers; labels of 2 classes are whole ones"):
        Splits.of(train=data, valid=data, classes=2)


def test_inputs_alone_cannot_be_a_loader() -> None:
    loader: Any = DataLoader([1, 2])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="is a DataLoader; give its dataset"):
        Splits.of(train=loader, valid=loader, targets="input")


@pytest.mark.parametrize("items", [False, True])
def test_inputs_alone_with_channels_last_are_their_own_targets(items: bool) -> None:
    pixels: Any = noise(4, 8, 6, 3)

    class Alone(Items):
        def __getitem__(self, index: int) -> Any:
            return self.x[index]

    data: Any = Alone(list(pixels)) if items else pixels
    splits = Splits.of(train=data, valid=data, targets="input")
    x, y = splits.train.tensors
    assert splits.spec.shape == (3, 8, 6)
    assert torch.equal(x.float() / 256, y)
