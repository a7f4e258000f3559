"""Images of one size as bytes in one memory-mapped file, written once: a training reads only what a batch needs.

A cache is a folder with the images of all splits one after the other, and a description that is written last, so that
a cache is whole or not used. Its name is a hash of what it was made from.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from experiments import live
from experiments.data.download import exclusive, replacing
from experiments.data.images import decoded, quiet
from experiments.data.splits import DataSpec
from experiments.errors import DataError
from experiments.files import expanded

log = logging.getLogger(__name__)

IMAGES, DESCRIPTION = "images.u8", "rows.json"
AT_ONCE = 256  # images in memory while a cache is written

Named = tuple[str, Path | bytes]  # how messages call an image, and its file or the file's bytes


class Wanted(NamedTuple):
    """How images are stored, by a dataset's settings; without a size all have the same. `folder` is of all caches."""

    size: int | Sequence[int] | None
    mode: Literal["RGB", "L"]
    skip_damaged: bool
    folder: str


def fitted(image: Image.Image, data: DataSpec) -> NDArray[np.uint8]:
    """Return an image in mode L or RGB as bytes (channels, height, width) of a data spec's shape.

    It is resized until its shorter side fits, and the middle is cut out; one of that size keeps every pixel.
    """
    return _bytes(image, data.shape[1:])


def rows(
    images: Mapping[str, Iterable[Named]], targets: Mapping[str, NDArray[Any]], source: object, wanted: Wanted
) -> dict[str, Any]:
    """Return the arguments of `Splits.of` for the images of each split and their targets; images are memory-mapped.

    `source` identifies the files, by paths and times or a fingerprint.

    Raises:
        DataError: images are damaged or of several sizes, or the cache cannot be written.
    """
    made_from = json.dumps([str(source), *wanted[:-1]])
    folder = expanded(wanted.folder) / hashlib.sha256(made_from.encode()).hexdigest()[:16]
    sizes = {part: len(y) for part, y in targets.items()}
    try:
        described = _described(folder)
        if described is None:
            with exclusive(folder):
                described = _described(folder) or _write(folder, images, sizes, wanted)
    except OSError as error:
        raise DataError(f"dataset.cache={wanted.folder}: {folder} cannot be used: {error}") from error
    if damaged := sum(map(len, described["damaged"].values())):
        log.warning("%d of %d images are damaged and left out", damaged, sum(sizes.values()))
    x, start = _mapped(folder / IMAGES, described["shape"]), 0
    digest, found = hashlib.sha256(described["digest"].encode()), {}
    for part, y in targets.items():
        y = np.delete(y, described["damaged"][part], axis=0)
        found[part] = (x[start : start + len(y)], torch.from_numpy(y))
        digest.update(f"{part} {y.shape} {y.dtype}".encode() + y.tobytes())
        start += len(y)
    return {**found, "shape": tuple(described["shape"]), "digest": digest.hexdigest()}


def _described(folder: Path) -> dict[str, Any] | None:
    """Return the description of a whole cache; None where there is none."""
    try:
        described: dict[str, Any] = json.loads((folder / DESCRIPTION).read_bytes())
        return described if (folder / IMAGES).stat().st_size == described["bytes"] else None
    except (FileNotFoundError, ValueError):
        return None


def _mapped(path: Path, shape: Sequence[int]) -> torch.Tensor:
    """Return flat rows (n, features), read when they are used.

    Copy-on-write where the system has memory for a copy of all; else read-only, and a change in place ends the process.
    """
    try:
        pixels = np.memmap(path, np.uint8, mode="c")
    except OSError:
        pixels = np.memmap(path, np.uint8, mode="r")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(pixels.reshape(-1, int(np.prod(shape))))


def _write(
    folder: Path, images: Mapping[str, Iterable[Named]], sizes: Mapping[str, int], wanted: Wanted
) -> dict[str, Any]:
    """Write a cache, and return its description."""
    (folder / DESCRIPTION).unlink(missing_ok=True)
    damaged: dict[str, list[int]] = {part: [] for part in images}
    digest, first = hashlib.sha256(), None
    with quiet(), replacing(folder / IMAGES) as path, path.open("wb") as file:
        for part, files in images.items():
            named = live.track(files, f"reading {part} images", sizes[part])
            for row, (name, read) in enumerate(_read(named, wanted)):
                if read is None:
                    damaged[part].append(row)
                    continue
                first = first or (name, read.shape)
                if read.shape != first[1]:
                    found = " and ".join(f"{n} ({h}x{w})" for n, (_, h, w) in (first, (name, read.shape)))
                    remedy = f"dataset.size=[{first[1][1]},{first[1][2]}] resizes and crops all to one height and width"
                    raise DataError(f"the images have several sizes, such as {found}; {remedy}")
                file.write(read.data)
                digest.update(read.data)
        length = file.tell()
    if first is None:
        raise DataError("no image can be read")
    described = {"shape": first[1], "bytes": length, "damaged": damaged, "digest": digest.hexdigest()}
    with replacing(folder / DESCRIPTION) as path:
        path.write_text(json.dumps(described), encoding="utf-8")
    return described


def _read(named: Iterator[Named], wanted: Wanted) -> Iterator[tuple[str, NDArray[np.uint8] | None]]:
    """Yield each image with its name, in order; None for a damaged one. Some are read ahead, by several threads."""
    size = (wanted.size, wanted.size) if isinstance(wanted.size, int) else wanted.size

    def pixels(image: Named) -> tuple[str, NDArray[np.uint8] | None]:
        try:
            return image[0], _bytes(decoded(image[1], len(wanted.mode), image[0]), size)
        except DataError as error:
            if wanted.skip_damaged:
                return image[0], None
            raise DataError(f"{error}; dataset.skip_damaged=true leaves damaged images out") from None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while ahead := [*islice(named, AT_ONCE)]:
            yield from pool.map(pixels, ahead)


def _bytes(image: Image.Image, size: Sequence[int] | None) -> NDArray[np.uint8]:
    if size is not None and image.size != (size[1], size[0]):
        image = ImageOps.fit(image, (size[1], size[0]), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
