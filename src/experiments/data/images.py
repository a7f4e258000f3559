"""Picture files, opened with care: what is no picture is one message, whatever its bytes lead a reader to.

Only the formats that are named here are tried, the first frame of what moves is taken, a camera's turn is undone,
transparent parts lie on a plain ground, and all comes as bytes of grey or of red, green and blue.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from experiments.errors import DataError

# Pillow's other readers are for rarer files, and each is more code that foreign bytes could break.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
SIXTEEN_BITS, TO_BYTE = 65_535, 257


def files(given: Path) -> list[Path]:
    """The picture files that a path means: itself, or those of a folder, sorted by name.

    Raises:
        DataError: the folder has none, or cannot be read.
    """
    try:
        if not given.is_dir():
            return [given]
        found = sorted(path for path in given.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise DataError(f"{given}: {error.strerror}") from None
    if not found:
        raise DataError(f"{given}: a folder without pictures ({', '.join(SUFFIXES)})")
    return found


def read(path: Path, channels: int) -> Image.Image:
    """A picture file as it is meant to be seen, in mode L (1 channel) or RGB (3 channels).

    Raises:
        DataError: it is none that can be read.
    """
    _require_file(path)
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of details in a file that change no pixel
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as picture:
                return _flat(ImageOps.exif_transpose(picture)).convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        raise DataError(f"{path}: {'an empty file' if empty else f'no picture ({_words(FORMATS)})'}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        problem = f"a picture of more than {Image.MAX_IMAGE_PIXELS:,} pixels, which may be meant to fill the memory"
        raise DataError(f"{path}: {problem}") from None
    except Exception as error:  # noqa: BLE001  # foreign bytes raise whatever they like
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: cannot be read as a picture: {told}") from None


def _require_file(path: Path) -> None:
    """See that there is a file; what is none, a pipe say, might never end."""
    try:
        if path.is_file():
            return
        problem = "no file" if path.exists() else "there is no such file"
    except OSError as error:
        problem = error.strerror or type(error).__name__
    raise DataError(f"{path}: {problem}")


def edge(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The values along a picture's border (height, width), which a twentieth of its smaller side is wide."""
    height, width = array.shape
    wide = max(1, min(height, width) // 20)
    inside = np.s_[wide : height - wide]
    parts = (array[:wide], array[height - wide :], array[inside, :wide], array[inside, width - wide :])
    return np.concatenate([part.ravel() for part in parts])


def _flat(picture: Image.Image) -> Image.Image:
    """Eight bits a channel and nothing to be seen through."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _eight_bits(np.nan_to_num(np.asarray(picture, dtype=np.float64)), real=picture.mode == "F")
    if picture.has_transparency_data:
        return _on_ground(picture.convert("RGBA"))
    return picture if picture.mode in ("L", "RGB") else picture.convert("L" if picture.mode == "1" else "RGB")


def _eight_bits(values: NDArray[np.float64], *, real: bool) -> Image.Image:
    """Numbers of 16 bits as bytes; others, which have no scale of their own, from the lowest to the highest."""
    low, high = values.min(), values.max()
    if real or low < 0 or high > SIXTEEN_BITS:
        values = (values - low) / max(high - low, np.finfo(np.float64).tiny) * SIXTEEN_BITS
    return Image.fromarray((values / TO_BYTE).round().astype(np.uint8))


def _on_ground(picture: Image.Image) -> Image.Image:
    """What is transparent as plain ground: that of an opaque border, else black behind light ink, white behind dark."""
    grey, alpha = np.asarray(picture.convert("L")), np.asarray(picture.getchannel("A"))
    opaque = edge(alpha) > 127  # half
    if opaque.mean() > 0.5:
        light = float(np.median(edge(grey)[opaque])) > 127
    else:
        light = not alpha.any() or float(np.average(grey, weights=alpha)) <= 127
    ground = Image.new("RGBA", picture.size, "white" if light else "black")
    return Image.alpha_composite(ground, picture).convert("RGB")


def _words(formats: tuple[str, ...]) -> str:
    return ", ".join(formats[:-1]) + f" or {formats[-1]}"
