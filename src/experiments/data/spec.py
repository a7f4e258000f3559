"""The data spec, from which models are built without the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.data.tensors import Shape, features


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
