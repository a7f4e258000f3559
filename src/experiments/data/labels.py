"""What the targets of a dataset are: labels of how many classes, or how many real numbers."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor

from experiments.data import nested
from experiments.data.nested import Nested
from experiments.data.split import Split, is_stream
from experiments.data.tensors import IGNORED, is_arrays
from experiments.errors import DataError

log = logging.getLogger(__name__)

# A label is an output of the model; a larger number is something else (an id, a time).
MOST_CLASSES = 99_999


def described(splits: Mapping[str, Split], classes: int | None) -> tuple[bool, int, tuple[int, ...]]:
    """Return whether the targets are labels, their outputs and a row's places.

    Of a stream, and of a Dataset of known classes, the first row stands for all. Targets of several parts are the
    user's own loss's matter.
    """
    targets = [_targets(split, known=classes is not None) for split in splits.values()]
    if not isinstance(targets[0], Tensor):
        return False, classes or sum(leaf[0].numel() for leaf in nested.leaves(targets[0])), ()
    kinds = {(y.dtype, *y.shape[1:]) for y in targets}
    if len(kinds) > 1:
        told = [f"{part} {y.dtype} {tuple(y.shape)}" for part, y in zip(splits, targets, strict=True)]
        found = ", ".join(told).replace("torch.", "")
        raise DataError(f"the splits hold different targets: {found}; give y in one type, with the same columns")
    if targets[0].is_floating_point():
        if classes is not None:
            raise DataError(f"y holds real numbers; labels of {classes} classes are whole ones")
        if all(bool((y.sum(dim=1) == 1).all() and (y * y == y).all()) for y in targets) and targets[0].shape[1] > 1:
            log.warning("y holds a single 1 in each row, read as several labels; y.argmax(1) gives one label a row")
        return False, targets[0].shape[1], ()
    for y in targets:
        _require_labels(y, classes)
    return True, classes or max(int(y.max()) for y in targets) + 1, tuple(targets[0].shape[1:])


def _targets(split: Split, *, known: bool) -> Nested:
    """Return the targets of all rows, or of the first one."""
    if is_arrays(split.dataset) or not (known or is_stream(split)):
        return split.tensors[1]
    y = split.rows([split.item])[1]
    if isinstance(y, Tensor) and not y.is_floating_point() and not known:
        raise DataError("a stream's labels are not counted; say how many there are: classes=...")
    return y


def _require_labels(y: Tensor, classes: int | None) -> None:
    """Check that labels are those of the classes; of places, some may be left out."""
    known = y[y != IGNORED] if y.ndim > 1 else y
    if not len(known):
        return
    low, high = int(known.min()), int(known.max())
    if classes is None and high > MOST_CLASSES:
        raise DataError(f"y holds the label {high}; labels are 0 .. {MOST_CLASSES} at most, one for each class")
    if low < 0:
        raise DataError(f"y holds the label {low}; labels start at 0")
    if classes is not None and high >= classes:
        raise DataError(f"y holds the label {high}; the labels of {classes} classes end at {classes - 1}")
