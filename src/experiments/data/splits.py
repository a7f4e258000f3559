"""What a dataset gives to a run: its splits, and what it says of itself before a model is built."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from experiments.data.tensors import Shape, as_rows, as_targets, is_arrays, to_float
from experiments.errors import DataError
from experiments.seeds import fixed_noise

# A label is an output of the model; a larger one is a number of something else (an id, a time).
MOST_CLASSES = 99_999
Pair = tuple[Any, Any]
Source = Pair | Dataset[Any]


@dataclass(frozen=True)
class DataSpec:
    """What is known of a dataset before a model is built; models receive it as their first argument.

    Args:
        name: the dataset's name.
        shape: (channels, height, width) of one picture.
        outputs: numbers a model gives for one picture: the classes, or the columns of real targets.
        classes: whether targets are class labels 0 .. outputs-1 (else real numbers).
        sizes: rows of each split.
        digest: identifies the content.
        source: where it came from.
        labels: what the classes are called.
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
        """The numbers of one picture: channels * height * width."""
        channels, height, width = self.shape
        return channels * height * width


class Split:
    """Rows of a dataset: a map-style dataset, which for arrays is a TensorDataset of flat rows.

    Args:
        dataset: gives (x, y) for an index.
        shape: of one picture, needed where its items are flat.
    """

    def __init__(self, dataset: Dataset[Any], shape: Shape | None = None) -> None:
        self.dataset, self.shape = dataset, shape

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # torch's Dataset promises no length, a map-style one has it

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """X (n, features) uint8 or float32 and y (n,) int64 or (n, columns) float32, every item read once."""
        if is_arrays(self.dataset):
            x, y = self.dataset.tensors
            return x, y
        with fixed_noise():
            items = [self.dataset[index] for index in range(len(self))]
        x = torch.stack([torch.as_tensor(x) for x, _ in items])
        return as_rows(x, self.shape)[0], as_targets([y for _, y in items])

    def floats(self) -> tuple[Tensor, Tensor]:
        """The same with x as float32: a byte is a pixel value times 256, so the conversion is exact."""
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
        """Splits from (x, y) arrays or map-style datasets; what is not given is read off the rows.

        Args:
            train: (x, y) with x (n, height, width), (n, channels, height, width), or (n, features) with `shape`;
                y whole-number labels (n,), or real targets (n,) or (n, columns). Or a map-style Dataset of such rows.
            valid: likewise.
            test: likewise, or none.
            shape: (channels, height, width), needed where x is flat.
            classes: how many classes; counted where it is not given, which reads every item of a Dataset once.
            digest: identifies the content; hashed from it where it is not given.
            source: where the data came from.
            labels: what the classes are called.
            name: the dataset's name; the registered one where it is empty.

        Raises:
            DataError: the rows do not fit together.
        """
        given = {"train": train, "valid": valid} | ({} if test is None else {"test": test})
        splits, shapes = {}, set()
        for part, value in given.items():
            splits[part], found = _split(value, shape, part)
            shapes.add(found)
        if len(shapes) > 1:
            raise DataError(f"the splits hold pictures of different shapes: {sorted(shapes)}")
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
    x, found = as_rows(value[0], shape)
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
    return split, as_rows(torch.as_tensor(item[0])[None], shape)[1]


def _targets(splits: Mapping[str, Split], classes: int | None) -> tuple[bool, int]:
    """Whether the targets are labels, and how many outputs they ask for; a Dataset of known classes is not read."""
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
    content = hashlib.sha256(str(shape).encode())
    for part, split in sorted(splits.items()):
        for tensor in split.tensors:
            content.update(f"{part} {tuple(tensor.shape)} {tensor.dtype}".encode())
            content.update(np.ascontiguousarray(tensor.numpy()).data)
    return content.hexdigest()
