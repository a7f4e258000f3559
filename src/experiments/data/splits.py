"""A dataset: its splits, and the data spec that models are built from."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from experiments.data import nested
from experiments.data.nested import Nested
from experiments.data.split import Collate, Split, inputs_alone, split_of
from experiments.data.stream import Stream
from experiments.data.tensors import IGNORED, Shape, features, is_arrays
from experiments.errors import DataError

log = logging.getLogger(__name__)

# A label is an output of the model; a larger number is something else (an id, a time).
MOST_CLASSES = 99_999
Source = Any  # (x, y), or a map-style dataset of such rows


@dataclass(frozen=True)
class DataSpec:
    """What a dataset declares before a model is built; models receive it as their first argument.

    Args:
        shape: of one row, (channels, height, width) for an image; of each input, where there are several.
        outputs: numbers that a model gives for a row, or for each of its places: the classes, or the columns of real
            targets.
        classes: whether targets are class labels 0 .. outputs-1 (else real numbers).
        sizes: rows of each split.
        digest: identifies the content.
        labels: the names of the classes.
        places: the shape of one row's labels, (height, width) in a segmentation; () for one label a row.
        dtype: of x as it is stored: uint8, int64, bool or float32; of each input, where there are several.
        extra: plain values for models, such as the size of a vocabulary.
    """

    name: str
    shape: Shape
    outputs: int
    classes: bool
    sizes: Mapping[str, int]
    digest: str
    source: str = ""
    labels: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    dtype: Any = "float32"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def features(self) -> int:
        """The numbers of one row: of an image, channels * height * width."""
        return features(self.shape)


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
        outputs: int | None = None,
        targets: str | None = None,
        extra: Mapping[str, Any] | None = None,
        collate: Collate | None = None,
        rows: Mapping[str, int] | None = None,
        digest: str | None = None,
        source: str = "",
        labels: Sequence[str] = (),
        name: str = "",
    ) -> Splits:
        """Return splits of (x, y) arrays or of map-style datasets of such rows.

        x has n rows of any shape: (n, features) numbers, (n, length) tokens, (n, height, width) or (n, channels,
        height, width) images, or flat rows with `shape`, which is that of one. A tuple or mapping of such is several
        inputs. y is whole-number labels (n,), with `classes` one for each of a row's places (n, places ...); real
        targets (n,) or (n, columns ...); or 0 and 1 in columns, several labels a row.

        Args:
            train: the training rows, and so `valid` and `test` theirs.
            valid: see `train`.
            test: see `train`.
            shape: of one row; None for that of the data.
            classes: how many; None to count them, which reads every item of a Dataset once.
            outputs: what a model gives for a row, where that is neither the classes nor the targets' columns.
            targets: "input" where x alone is given, and a model's target is its input.
            extra: plain values for models.
            collate: makes a batch (x, y) of a list of items, as a DataLoader's does.
            rows: how many a pass of each split has, where it is an IterableDataset without a length.
            digest: identifies the content; None to hash it, of a stream its first rows.
            source: where the rows are from, in words.
            labels: the names of the classes.
            name: of the dataset; empty for that of its registration.

        Raises:
            DataError: the rows do not fit together.
        """
        _require_plain(extra or {})
        if targets not in (None, "input"):
            raise DataError(f'targets is {targets!r}; "input" makes the input the target')
        splits: dict[str, Split] = {}
        for part, value in {"train": train, "valid": valid, "test": test}.items():
            if value is not None:
                if isinstance(value, IterableDataset):
                    value = _stream(value, part, rows or {})  # the same, with a length
                make = split_of if targets is None else inputs_alone
                splits[part] = make(value, shape, part, classes=classes is not None, collate=collate)
        shapes = [split.shape for split in splits.values()]
        if any(found != shapes[0] for found in shapes):
            raise DataError(f"the splits hold rows of different shapes: {sorted(shapes)}")
        whole = [[leaf.dtype == torch.int64 for leaf in nested.leaves(split.first)] for split in splits.values()]
        if any(kinds != whole[0] for kinds in whole):
            raise DataError("the splits hold whole numbers here and real ones there; give x in one type")
        labelled, counted, places = _targets(splits, classes)
        spec = DataSpec(
            name=name,
            shape=shapes[0],
            outputs=outputs or counted,
            classes=labelled,
            sizes={part: len(split) for part, split in splits.items()},
            digest=digest or _digest(splits, shapes[0]),
            source=source,
            labels=tuple(labels),
            places=places,
            dtype=nested.apply(lambda tensor: str(tensor.dtype).removeprefix("torch."), splits["train"].first),
            extra=dict(extra or {}),
        )
        return cls(splits["train"], splits["valid"], spec, splits.get("test"))

    def with_input_targets(self) -> Splits:
        """Return the same rows with the input as the target, for an autoencoder."""
        if not isinstance(self.spec.dtype, str):
            raise DataError(f"dataset {self.spec.name} has several inputs; one alone can be the target")
        turned = {part: getattr(self, part).with_input_targets() for part in self.spec.sizes}
        spec = replace(self.spec, outputs=self.spec.features, classes=False, labels=(), places=())
        return Splits(turned["train"], turned["valid"], spec, turned.get("test"))


def _targets(splits: Mapping[str, Split], classes: int | None) -> tuple[bool, int, tuple[int, ...]]:
    """Return whether the targets are labels, their outputs and a row's places; a Dataset of known classes is not read.

    Targets of several parts are the user's own loss's matter.
    """
    known = classes is not None
    targets = [_first_targets(split, known=known) for split in splits.values() if is_stream(split)]
    targets += [
        split.tensors[1] for split in splits.values() if is_arrays(split.dataset) or not (known or is_stream(split))
    ]
    if targets and not isinstance(targets[0], Tensor):
        return False, sum(leaf[0].numel() for leaf in nested.leaves(targets[0])), ()
    kinds = {(y.dtype, *y.shape[1:]) for y in targets}
    if len(kinds) > 1:
        raise DataError("the splits hold different targets: labels here and real numbers there, or other columns")
    if targets and targets[0].is_floating_point():
        if classes is not None:
            raise DataError(f"y holds real numbers; labels of {classes} classes are whole ones")
        if all(bool((y.sum(dim=1) == 1).all() and (y * y == y).all()) for y in targets) and targets[0].shape[1] > 1:
            log.warning("y holds a single 1 in each row, read as several labels; y.argmax(1) gives one label a row")
        return False, targets[0].shape[1], ()
    for y in targets:
        _require_labels(y, classes)
    if not targets:
        y = splits["train"].targets(nested.turned([splits["train"].item])[1])
        return True, classes or 0, tuple(y.shape[1:])
    return True, classes or max(int(y.max()) for y in targets) + 1, tuple(targets[0].shape[1:])


def _first_targets(split: Split, *, known: bool) -> Nested:
    """Return the targets of a stream's first row, which stand for all where the classes are known or they are real."""
    y = split.targets(nested.turned([split.item])[1])
    if isinstance(y, Tensor) and not y.is_floating_point() and not known:
        raise DataError("a stream's labels are not counted; say how many there are: classes=...")
    return y


def is_stream(split: Split) -> bool:
    """Return whether rows come from an IterableDataset."""
    return isinstance(split.dataset, Stream)


def _stream(dataset: Any, part: str, rows: Mapping[str, int]) -> Stream:
    count = rows.get(part) or (len(dataset) if hasattr(dataset, "__len__") else 0)
    if not count:
        raise DataError(f'the {part} split is a stream; say how many rows a pass has: rows={{"{part}": 1000, ...}}')
    return Stream(dataset, count)


def _require_labels(y: Tensor, classes: int | None) -> None:
    """Check that labels are those of the classes; of places, some may be left out."""
    low, high = int((y[y != IGNORED] if y.ndim > 1 else y).min()), int(y.max())
    if classes is None and high > MOST_CLASSES:
        raise DataError(f"y holds the label {high}; labels are 0 .. {MOST_CLASSES} at most, one for each class")
    if low < 0:
        raise DataError(f"y holds the label {low}; labels start at 0")
    if classes is not None and high >= classes:
        raise DataError(f"y holds the label {high}; the labels of {classes} classes end at {classes - 1}")


def _require_plain(extra: Mapping[str, Any]) -> None:
    """Check that these values are the same once they are read from a run's journal."""
    try:
        same = json.loads(json.dumps(extra)) == extra
    except (TypeError, ValueError):
        same = False
    if not same:
        raise DataError("extra should hold plain values: numbers, text, lists, and dicts whose keys are text")


def _digest(splits: Mapping[str, Split], shape: Shape) -> str:
    digest = hashlib.sha256(str(shape).encode())
    for part, split in sorted(splits.items()):
        rows = split.begin() if is_stream(split) else split.tensors
        for tensor in nested.leaves(rows):
            digest.update(f"{part} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(np.ascontiguousarray(tensor.numpy()).data)
    return digest.hexdigest()
