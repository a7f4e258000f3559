"""A dataset: its splits, and the data spec that models are built from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from experiments.data.items import arrays_of, channels_first
from experiments.data.tensors import Shape, as_rows, as_targets, is_arrays, to_float
from experiments.errors import DataError
from experiments.seeds import fixed_noise

# A label is an output of the model; a larger number is something else (an id, a time).
MOST_CLASSES = 99_999
Pair = tuple[Any, Any]
Source = Pair | Dataset[Any]


@dataclass(frozen=True)
class DataSpec:
    """What a dataset declares before a model is built; models receive it as their first argument.

    Args:
        shape: (channels, height, width) of one image.
        outputs: numbers that a model gives for one image: the classes, or the columns of real targets.
        classes: whether targets are class labels 0 .. outputs-1 (else real numbers).
        sizes: rows of each split.
        digest: identifies the content.
        labels: the names of the classes.
    """

    name: str
    shape: Shape
    outputs: int
    classes: bool
    sizes: Mapping[str, int]
    digest: str
    source: str = ""
    labels: tuple[str, ...] = ()

    @property
    def features(self) -> int:
        """The numbers of one image: channels * height * width."""
        return math.prod(self.shape)


class Split:
    """Rows of a dataset: a map-style dataset, which for arrays is a TensorDataset of flat rows.

    Args:
        shape: of one image, needed where the dataset's items are flat.
    """

    def __init__(self, dataset: Dataset[Any], shape: Shape | None = None) -> None:
        self.dataset, self.shape = dataset, shape

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # torch's Dataset promises no length, a map-style one has it

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """X (n, features) uint8 or float32 and y (n,) int64 or (n, columns) float32; every item is read once."""
        if is_arrays(self.dataset):
            x, y = self.dataset.tensors
            return x, y
        with fixed_noise():
            items = [self.dataset[index] for index in range(len(self))]
        return as_rows([x for x, _ in items], self.shape)[0], as_targets([y for _, y in items])

    def floats(self) -> tuple[Tensor, Tensor]:
        """Return x as float32 and y; a byte is a pixel value times 256, so the conversion is exact."""
        x, y = self.tensors
        return to_float(x), y


@dataclass(frozen=True)
class Splits:
    """A dataset: training and validation rows, perhaps test rows, and the data spec."""

    train: Split
    valid: Split
    spec: DataSpec
    test: Split | None = None

    @classmethod
    def of(
        cls,
        *,
        train: Source,
        valid: Source,
        test: Source | None = None,
        shape: Shape | None = None,
        classes: int | None = None,
        digest: str | None = None,
        source: str = "",
        labels: Sequence[str] = (),
        name: str = "",
    ) -> Splits:
        """Return splits of (x, y) arrays or of map-style datasets of such rows.

        x is (n, height, width), (n, channels, height, width), or flat rows (n, features) with `shape`, which is
        (channels, height, width); y is whole-number labels (n,), or real targets (n,) or (n, columns). Where `classes`
        is None, they are counted, which reads every item of a Dataset once; where `digest` is None, the content is
        hashed. `labels` names the classes.

        Raises:
            DataError: the rows do not fit together.
        """
        splits, shapes = {}, set()
        for part, value in {"train": train, "valid": valid, "test": test}.items():
            if value is not None:
                splits[part], found = _split(value, shape, part)
                shapes.add(found)
        if len(shapes) > 1:
            raise DataError(f"the splits hold images of different shapes: {sorted(shapes)}")
        found = shapes.pop()
        labelled, outputs = _targets(splits, classes)
        spec = DataSpec(
            name=name,
            shape=found,
            outputs=outputs,
            classes=labelled,
            sizes={part: len(split) for part, split in splits.items()},
            digest=digest or _digest(splits, found),
            source=source,
            labels=tuple(labels),
        )
        return cls(splits["train"], splits["valid"], spec, splits.get("test"))


def _split(value: Source, shape: Shape | None, part: str) -> tuple[Split, Shape]:
    if is_arrays(value):
        x, y = value.tensors
        value = (x, y)
    if not isinstance(value, tuple):
        return _map_style(value, shape, part)
    if len(value) != 2:
        raise DataError(f"the {part} split is a tuple of {len(value)}; (x, y) is expected")
    x, found = as_rows(channels_first(value[0], 4, part) if shape is None else value[0], shape)
    y = as_targets(value[1])
    if len(x) != len(y):
        raise DataError(f"the {part} split has {len(x)} rows in x and {len(y)} in y")
    if len(x) == 0:
        raise DataError(f"the {part} split has no rows")
    return Split(TensorDataset(x, y)), found


def _map_style(dataset: Any, shape: Shape | None, part: str) -> tuple[Split, Shape]:
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        kind = type(dataset).__name__
        raise DataError(f"the {part} split is a {kind}; (x, y) or a map-style Dataset with a length is expected")
    split = Split(dataset, shape)
    if len(split) == 0:
        raise DataError(f"the {part} split has no rows")
    item = dataset[0]
    if not isinstance(item, tuple | list) or len(item) != 2:
        found = f"{len(item)} values" if isinstance(item, tuple | list) else f"a {type(item).__name__}"
        raise DataError(f"the {part} split gives {found} for a row; (x, y) is expected")
    if shape is None and (arrays := arrays_of(dataset, item[0], part)) is not dataset:
        split, item = Split(arrays), arrays[0]
    return split, as_rows(torch.as_tensor(item[0])[None], shape)[1]


def _targets(splits: Mapping[str, Split], classes: int | None) -> tuple[bool, int]:
    """Return whether the targets are labels, and their outputs; a Dataset of known classes is not read."""
    read = [split for split in splits.values() if classes is None or is_arrays(split.dataset)]
    targets = [split.tensors[1] for split in read]
    kinds = {(y.dtype, *y.shape[1:]) for y in targets}
    if len(kinds) > 1:
        raise DataError("the splits hold different targets: labels here and real numbers there, or other columns")
    if targets and targets[0].is_floating_point():
        if classes is not None:
            raise DataError(f"y holds real numbers; labels of {classes} classes are whole ones")
        return False, targets[0].shape[1]
    for y in targets:
        low, high = int(y.min()), int(y.max())
        if classes is None and high > MOST_CLASSES:
            raise DataError(f"y holds the label {high}; labels are 0 .. {MOST_CLASSES} at most, one for each class")
        if low < 0:
            raise DataError(f"y holds the label {low}; labels start at 0")
        if classes is not None and high >= classes:
            raise DataError(f"y holds the label {high}; the labels of {classes} classes end at {classes - 1}")
    return True, classes or max(int(y.max()) for y in targets) + 1


def _digest(splits: Mapping[str, Split], shape: Shape) -> str:
    digest = hashlib.sha256(str(shape).encode())
    for part, split in sorted(splits.items()):
        for tensor in split.tensors:
            digest.update(f"{part} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(np.ascontiguousarray(tensor.numpy()).data)
    return digest.hexdigest()
