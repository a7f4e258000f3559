"""Read image files with care: a file that is not an image is one message, whatever its bytes make a reader do.

Only the formats named here are tried, the first frame of an animation is read, a camera's rotation is undone,
transparent parts become a plain ground, and the result is bytes of grey or of red, green and blue.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.errors import DataError, first_line

# Pillow's other readers are for rarer files, and each is more code that foreign bytes could break.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
SIXTEEN_BITS, TO_BYTE = 65_535, 257


def files(given: Path) -> list[Path]:
    """Return a file as a list of one, or a folder's image files, sorted by name.

    Raises:
        DataError: the folder has no image files, or cannot be read.
    """
    try:
        if not given.is_dir():
            return [given]
        found = sorted(path for path in given.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise DataError(f"{given}: {error.strerror}") from None
    if not found:
        raise DataError(f"{given}: a folder without images ({', '.join(SUFFIXES)})")
    return found


def read(path: Path, channels: int) -> Image.Image:
    """Return an image in mode L (1 channel) or RGB (3 channels), as a viewer shows it.

    Raises:
        DataError: it cannot be read as an image.
    """
    _require_file(path)
    with quiet():
        return decoded(path, channels, str(path))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings of details in a file that change no pixel; not for threads, so it is outside `decoded`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decoded(source: Path | bytes, channels: int, name: str) -> Image.Image:
    """Return the image in a file, or in a file's bytes, as `read` does; an error has its name."""
    empty = False
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
            empty = not file.read(1)
            with Image.open(file, formats=FORMATS) as image:
                return flat(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError:
        problem = "an empty file" if empty else f"not an image ({', '.join(FORMATS)})"
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        problem = f"an image of more than {Image.MAX_IMAGE_PIXELS:,} pixels, which may be meant to fill the memory"
    except Exception as error:  # noqa: BLE001  # foreign bytes can raise anything
        problem = f"cannot be read as an image: {first_line(error)}"
    raise DataError(f"{name}: {problem}")


def _require_file(path: Path) -> None:
    """Raise DataError unless the path is a file; reading anything else, such as a pipe, might never end."""
    try:
        if path.is_file():
            return
        problem = "not a file" if path.exists() else "there is no such file"
    except OSError as error:
        problem = error.strerror or type(error).__name__
    raise DataError(f"{path}: {problem}")


def edge(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the values of an image's border (height, width); it is a twentieth of the smaller side wide."""
    height, width = array.shape
    wide = max(1, min(height, width) // 20)
    inside = np.s_[wide : height - wide]
    parts = (array[:wide], array[height - wide :], array[inside, :wide], array[inside, width - wide :])
    return np.concatenate([part.ravel() for part in parts])


def flat(image: Image.Image) -> Image.Image:
    """Return an image with eight bits a channel and no transparency."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _eight_bits(np.nan_to_num(np.asarray(image, dtype=np.float64)), real=image.mode == "F")
    if image.has_transparency_data:
        return _on_ground(image.convert("RGBA"))
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")


def _eight_bits(values: NDArray[np.float64], *, real: bool) -> Image.Image:
    """Return 16-bit numbers as bytes; others, which have no known scale, from the lowest to the highest."""
    low, high = values.min(), values.max()
    if real or low < 0 or high > SIXTEEN_BITS:
        values = (values - low) / max(high - low, np.finfo(np.float64).tiny) * SIXTEEN_BITS
    return Image.fromarray((values / TO_BYTE).round().astype(np.uint8))


def _on_ground(image: Image.Image) -> Image.Image:
    """Fill transparent parts: with an opaque border's tone, else black behind light ink, white behind dark."""
    grey, alpha = np.asarray(image.convert("L")), np.asarray(image.getchannel("A"))
    opaque = edge(alpha) > 127  # half
    if opaque.mean() > 0.5:
        light = float(np.median(edge(grey)[opaque])) > 127
    else:
        light = not alpha.any() or float(np.average(grey, weights=alpha)) <= 127
    ground = Image.new("RGBA", image.size, "white" if light else "black")
    return Image.alpha_composite(ground, image).convert("RGB")
