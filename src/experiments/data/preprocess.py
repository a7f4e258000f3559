"""Bring an image to what a model was trained on: its size, light on dark, and digits centred as in MNIST.

MNIST's makers scaled each digit to fit 20x20, keeping its aspect, and put its centre of mass in the middle of 28x28
(http://yann.lecun.com/exdb/mnist). A dataset declares at its registration that its images are light on dark
(`light_on_dark=True`), and that they are centred like that (`centred=20 / 28`: the share of the frame for the ink); or
it names the function that makes a row of an image: `prepare=function`, called with a Pillow image and the data spec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.Image import Resampling
from torch import Tensor

from experiments.data.images import edge
from experiments.data.split import Split
from experiments.data.splits import DataSpec
from experiments.data.tensors import Shape, is_arrays, to_float
from experiments.errors import ConfigError, DataError, Fault, first_line

Pixels = NDArray[np.uint8]
FAINT = 0.1  # of the ink's peak: what is fainter does not count as ink for the crop
FAINTEST = 0.1  # the greatest number of training rows that are pixels from 0 to 1
SAMPLE = 64  # rows, of which a run keeps the range


@dataclass(frozen=True)
class Seen:
    """An image as a model gets it.

    Args:
        pixels: (channels, height, width), bytes, or what the dataset's own function made.
        how: the changes that were made, in words.
    """

    pixels: NDArray[Any]
    how: tuple[str, ...]


def require_pictures(shape: Shape, values: Sequence[float] | None) -> None:
    """Raise ConfigError where a model's rows have other channels or numbers (from, to, if known) than image files."""
    if len(shape) != 3 or next(iter(shape)) not in (1, 3):  # grey; red, green, blue
        what = f"{shape[0]} channels" if isinstance(shape, tuple) and len(shape) == 3 else f"rows of the shape {shape}"
        raise ConfigError(Fault("model", f"it takes {what}; an image file has 1 (grey) or 3 (red, green, blue)"))
    if values is not None and not (values[0] >= 0 and FAINTEST <= values[1] <= 1):
        problem = f"its training rows hold numbers from {values[0]:.4g} to {values[1]:.4g}, an image file 0 to 1"
        remedy = "register the dataset with prepare=function, which makes a row of a Pillow image and the data spec"
        raise ConfigError(Fault("dataset", f"{problem}; {remedy}"))


def values(split: Split) -> tuple[float, float] | None:
    """Return the least and greatest number of some rows' inputs; None where an input is several tensors."""
    known = is_arrays(split.dataset) or "tensors" in vars(split)
    x = split.tensors[0] if known else split.begin(min(SAMPLE, len(split)))[0]
    if not isinstance(x, Tensor):
        return None
    low, high = to_float(torch.stack(x[:: max(1, len(x) // SAMPLE)].aminmax())).tolist()
    return low, high


def own(image: Image.Image, spec: DataSpec, function: Callable[..., Any]) -> Seen:
    """Return an image as a dataset's own function makes a row of it; what goes wrong there is a DataError."""
    try:
        pixels = np.asarray(function(image, spec))
    except Exception as error:  # a user's function can raise anything
        raise DataError(f"prepare= of dataset {spec.name} failed: {first_line(error)}") from error
    if pixels.shape != tuple(spec.shape) or pixels.dtype.kind not in "biuf":
        made = f"made {pixels.dtype} of the shape {pixels.shape}; a row has the shape {tuple(spec.shape)}"
        raise DataError(f"prepare= of dataset {spec.name} {made}")
    return Seen(pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32), ())


def fit(image: Image.Image, shape: Shape, metadata: Mapping[str, Any]) -> Seen:
    """Return an image in mode L or RGB as a model of this shape takes it; one of that size keeps every pixel."""
    _, height, width = shape
    how = []
    if metadata.get("light_on_dark") and dark_on_light(np.asarray(image.convert("L"))):
        image = ImageOps.invert(image)
        how.append("dark on light, inverted")
    if image.size != (width, height):
        size = f"{image.size[0]}x{image.size[1]}"
        if metadata.get("centred") and image.mode == "L":
            image = _centred(np.asarray(image), height, width, metadata["centred"])
            how.append(f"{size}, cropped and centred")
        else:
            image = _padded(image, height, width)
            how.append(f"{size}, resized")
    pixels = np.asarray(image)
    return Seen(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), tuple(how))  # grey has no channels


def dark_on_light(grey: Pixels) -> bool:
    """Return whether the border, which is ground and not ink, is in the lighter half of the image's range."""
    return float(np.median(edge(grey))) > (int(grey.min()) + int(grey.max())) / 2


def _centred(grey: Pixels, height: int, width: int, share: float) -> Image.Image:
    """Return a light digit on dark ground as in MNIST: cropped, scaled, its centre of mass in the middle."""
    border = edge(grey)
    ground = float(np.median(border))
    peak = float(grey.max()) - ground
    if peak <= 0:
        return Image.new("L", (width, height))
    # A border's values beside its ground are a photograph's grain and shade; ink that touches it leaves half.
    grain = min(1.25 * (float(border.max()) - ground) / peak, 0.5)
    ink = grey > ground + max(FAINT, grain) * peak
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    crop = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    light = np.clip((crop - np.float32(ground)) / np.float32(peak), 0, 1)
    light[light <= grain] = 0
    small = np.asarray(_scaled(Image.fromarray(light), round(height * share), round(width * share)))
    small = np.clip(small / max(float(small.max()), FAINT), 0, 1)  # thin lines fade when they shrink
    canvas = np.zeros((height, width), np.float32)
    top, left = (_start(small.sum(axis=1 - axis), (height, width)[axis]) for axis in (0, 1))
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return Image.fromarray((canvas * 255).round().astype(np.uint8))


def _start(mass: NDArray[np.float32], size: int) -> int:
    """Return where a line of masses starts so that their centre is at size / 2 (in MNIST 14), as far as they fit."""
    centre = float(np.average(np.arange(len(mass)), weights=mass))
    return min(max(round(size / 2 - centre), 0), size - len(mass))


# Not ImageOps.pad and contain: they fail where the short side rounds to 0 pixels (500x1), round some sizes
# differently (29x56 into 28x28), and place an odd rest one pixel further.
def _padded(image: Image.Image, height: int, width: int) -> Image.Image:
    """Return the whole image in the middle of a canvas in the border's colour."""
    bands = [int(np.median(edge(np.asarray(band)))) for band in image.split()]
    canvas = Image.new(image.mode, (width, height), tuple(bands) if len(bands) > 1 else bands[0])
    small = _scaled(image, height, width)
    canvas.paste(small, ((width - small.size[0]) // 2, (height - small.size[1]) // 2))
    return canvas


def _scaled(image: Image.Image, height: int, width: int) -> Image.Image:
    """Return the largest size that fits, keeping the aspect; each new pixel is a mean over all that it covers."""
    factor = min(height / image.size[1], width / image.size[0])
    size = [max(1, round(side * factor)) for side in image.size]
    return image.resize((size[0], size[1]), Resampling.BICUBIC)
