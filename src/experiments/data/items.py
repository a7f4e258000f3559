"""Items of a user's datasets as arrays: Pillow images, and images of bytes with their channels last."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from experiments.data import images

log = logging.getLogger(__name__)

CHANNELS = (1, 3, 4)  # grey, colours, colours with transparency


class Mapped(Dataset[Any]):
    """A map-style dataset with a function of each item."""

    def __init__(self, dataset: Any, function: Callable[[Any], tuple[Any, Any]]) -> None:
        self.dataset, self.function = dataset, function

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.function(self.dataset[index])


def with_array(item: Any) -> tuple[Any, Any]:
    """Return an item (x, y) with x as `as_array` returns it."""
    x, y = item
    return as_array(x), y


def as_array(x: Any) -> Any:
    """Return a Pillow image or an array of bytes as bytes (channels, height, width)."""
    return _moved(np.atleast_3d(np.array(images.flat(x)))) if isinstance(x, Image.Image) else channels_first(x, 3)


def arrays_of(dataset: Any, item: Any, part: str, *, kept: bool) -> tuple[Any, Any]:
    """Return a map-style dataset that gives arrays with its first item (x, y): the same ones if they are so already.

    Where arrays are `kept`, Pillow images alone are converted.
    """
    x = item[0]
    if not isinstance(x, Image.Image) and (kept or channels_first(x, 3, part) is x):
        return dataset, item
    return Mapped(dataset, with_array), with_array(item)


def channels_first(x: Any, axes: int, part: str | None = None) -> Any:
    """Return bytes (..., height, width, channels) as (..., channels, height, width), and others as they are.

    It is logged where the split is named; of real numbers, which might be no image, it is a warning alone.
    """
    if not isinstance(x, np.ndarray | Tensor) or x.ndim != axes:
        return x
    if x.shape[-1] not in CHANNELS or x.shape[-3] in CHANNELS:
        return x
    if (kind := str(x.dtype).removeprefix("torch.")) != "uint8":
        if part and kind.startswith("float"):
            remedy = "np.moveaxis(x, -1, -3) puts channels first; `shape` says that they are so"
            log.warning("%s x %s is read as %d channels; %s", part, tuple(x.shape), x.shape[-3], remedy)
        return x
    if part:
        log.info("%s x %s has its channels last (if not: give `shape`, channels first)", part, tuple(x.shape))
    return _moved(x)


def _moved(x: Any) -> Tensor:
    return torch.as_tensor(x).movedim(-1, -3).contiguous()
