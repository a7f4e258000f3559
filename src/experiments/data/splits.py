"""A dataset: its splits of rows, and their data spec."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from experiments.data import nested
from experiments.data.labels import described
from experiments.data.spec import DataSpec
from experiments.data.split import Collate, Split, inputs_alone, is_stream, split_of
from experiments.data.stream import Stream
from experiments.data.tensors import IGNORED, Shape, is_arrays
from experiments.errors import DataError

__all__ = ["DataSpec", "Splits", "is_stream"]

Source = Any  # (x, y), or a map-style dataset of such rows


@dataclass(frozen=True)
class Splits:
    """A dataset: training and validation rows, perhaps test rows, and the data spec."""

    train: Split
    valid: Split
    spec: DataSpec
    test: Split | None = None
    counts: tuple[int, ...] = ()  # of the training rows that a model was trained on, where `train` are others
    unread: bool = False  # whether the targets are made up, and nobody reads them

    @property
    def class_counts(self) -> tuple[int, ...]:
        """The training rows of each class; none for real targets, or where each item would have to be read."""
        if self.counts or not self.spec.classes or not is_arrays(self.train.dataset):
            return self.counts
        y = self.train.tensors[1]
        return tuple(torch.bincount(y[y != IGNORED], minlength=self.spec.outputs).tolist())

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
        if rows and not any(map(is_stream, splits.values())):
            raise DataError("rows is the length of a pass over a stream, and no split is an IterableDataset")
        _require_alike(splits)
        shape = splits["train"].shape
        labelled, counted, places = described(splits, classes)
        spec = DataSpec(
            name=name,
            shape=shape,
            outputs=outputs or counted,
            classes=labelled,
            sizes={part: len(split) for part, split in splits.items()},
            digest=digest or _digest(splits, shape),
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


def _require_alike(splits: Mapping[str, Split]) -> None:
    """Check that the rows of all splits have one shape, and whole numbers in the same inputs."""
    shapes = [split.shape for split in splits.values()]
    if any(shape != shapes[0] for shape in shapes):
        found = ", ".join(f"{part} {split.shape}" for part, split in splits.items())
        raise DataError(f"the splits hold rows of different shapes: {found}; pad or cut all to one shape")
    kinds = {part: [str(leaf.dtype)[6:] for leaf in nested.leaves(split.first)] for part, split in splits.items()}
    whole = [[kind == "int64" for kind in found] for found in kinds.values()]
    if any(each != whole[0] for each in whole):
        found = ", ".join(f"{part} {' and '.join(each)}" for part, each in kinds.items())
        raise DataError(f"the splits hold whole numbers here and real ones there: {found}; give x in one type")


def _stream(dataset: Any, part: str, rows: Mapping[str, int]) -> Stream:
    count = rows.get(part) or (len(dataset) if hasattr(dataset, "__len__") else 0)
    if not count:
        told = 'say how many rows a pass of each split has, rows={"train": 1000, "valid": 200}'
        raise DataError(f"the {part} split is a stream; {told}, and read it with loader=dataloader")
    return Stream(dataset, count)


def _require_plain(extra: Mapping[str, Any]) -> None:
    """Check that these values are the same once they are read from a run's journal."""
    with contextlib.suppress(TypeError, ValueError):
        if json.loads(json.dumps(extra)) == extra:
            return
    raise DataError("extra should hold plain values: numbers, text, lists, and dicts whose keys are text")


def _digest(splits: Mapping[str, Split], shape: Shape) -> str:
    digest = hashlib.sha256(str(shape).encode())
    for part, split in sorted(splits.items()):
        rows = split.begin() if is_stream(split) else split.tensors
        for tensor in nested.leaves(rows):
            digest.update(f"{part} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(np.ascontiguousarray(tensor.numpy()).data)
    return digest.hexdigest()
