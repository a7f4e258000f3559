"""Items of a user's datasets as arrays: Pillow images, and images of bytes with their channels last."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from experiments.data import images

log = logging.getLogger(__name__)

CHANNELS = (1, 3, 4)  # grey, colours, colours with transparency


class AsArrays(Dataset[Any]):
    """A map-style dataset of (x, y) whose x is made bytes (channels, height, width)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        x, y = self.dataset[index]
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
    return AsArrays(dataset), (as_array(x), item[1])


def channels_first(x: Any, axes: int, part: str | None = None) -> Any:
    """Return bytes (..., height, width, channels) as (..., channels, height, width), and others as they are.

    It is logged where the split is named.
    """
    if not isinstance(x, np.ndarray | Tensor) or x.ndim != axes or str(x.dtype) not in ("uint8", "torch.uint8"):
        return x
    if x.shape[-1] not in CHANNELS or x.shape[-3] in CHANNELS:
        return x
    if part:
        log.info("%s x %s has its channels last (if not: give `shape`, channels first)", part, tuple(x.shape))
    return _moved(x)


def _moved(x: Any) -> Tensor:
    return torch.as_tensor(x).movedim(-1, -3).contiguous()
