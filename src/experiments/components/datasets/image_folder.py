"""Images in folders: one folder for each class, perhaps below train/, valid/ and test/."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Len

from experiments.config.registry import register
from experiments.data import image_cache, own_arrays
from experiments.data.image_cache import Wanted
from experiments.data.images import SUFFIXES
from experiments.data.splits import Splits
from experiments.data.stratify import Division, Seed, ValidFraction
from experiments.errors import DataError, suggestion
from experiments.files import expanded

log = logging.getLogger(__name__)

SYSTEM = ("thumbs.db", "desktop.ini", "__macosx")
Positive = Annotated[int, Ge(1)]
Files = list[tuple[str, Path]]  # the class of each, and its path


@register.dataset("image_folder", prepare=image_cache.fitted, places=("cache",))
def image_folder(
    *,
    root: str,
    size: Positive | Annotated[list[Positive], Len(2, 2)] | None = None,
    mode: Literal["RGB", "L"] = "RGB",
    valid_fraction: ValidFraction = 0.2,
    seed: Seed = 0,
    skip_damaged: bool = False,
    cache: str = "data/images",
) -> Splits:
    """Read the images below `root`, as conf/dataset/image_folder.yaml explains.

    Raises:
        DataError: there are no class folders or images, or images that cannot be read or differ in size.
    """
    try:
        parts = {part: _files(folder) for part, folder in _folders(expanded(root).absolute()).items()}
        classes = _classes(parts)
        targets = {part: np.array([classes.index(name) for name, _ in files]) for part, files in parts.items()}
        if "valid" not in parts:
            files, y = parts["train"], targets["train"]
            chosen = Division(valid_fraction, seed=seed).parts(len(y), labels=y)
            parts |= {part: [files[row] for row in rows] for part, rows in chosen.items()}
            targets |= {part: y[rows] for part, rows in chosen.items()}
        images = {part: [(str(path), path) for _, path in files] for part, files in parts.items()}
        stats = {part: [(path, path.stat()) for _, path in files] for part, files in parts.items()}
        source = {part: [(str(p), (s.st_size, s.st_mtime_ns)) for p, s in found] for part, found in stats.items()}
        rows = image_cache.rows(images, targets, source, Wanted(size, mode, skip_damaged, cache))
        splits = Splits.of(**rows, classes=len(classes), labels=classes, source=root, name="image_folder")
    except (DataError, OSError) as error:
        raise DataError(f"dataset.root={root}: {error}") from error
    own_arrays.report(splits, np.dtype(np.uint8), ())
    return splits


def _folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split, which has the class folders; only `train` where the root has them itself."""
    if not root.is_dir():
        raise DataError("not a folder" if root.exists() else "no such folder")
    inside = {path.name: path for path in _visible(root) if path.is_dir()}
    splits = [name for name in inside if name.lower() in own_arrays.SPLITS]
    nested = [name for name in splits if any(path.is_dir() for path in _visible(inside[name]))]
    if not nested and (not splits or len(splits) < len(inside)):
        return {"train": root}
    found = {part: inside[name] for part, name in own_arrays.by_split(nested or splits).items()}
    if "train" not in found:
        raise DataError(f"{', '.join(found)} without train; it should have train/, perhaps valid/ and test/")
    if ignored := sorted(inside.keys() - {path.name for path in found.values()}):
        log.warning("%s: not read, not a split with class folders: %s", root, ", ".join(ignored))
    return found


def _files(folder: Path) -> Files:
    """Return the image files of a split, sorted by class and path."""
    classes = sorted(path for path in _visible(folder) if path.is_dir())
    if flat := sorted(path.name for path in _visible(folder) if _is_image(path)):
        raise DataError(
            f"{len(flat)} images such as {flat[0]} are in {folder} itself; each belongs into a folder of its class"
        )
    if not classes:
        raise DataError(f"{folder} has no folders; it should have one for each class, with its images")
    files: Files = []
    for each in classes:
        below = sorted(path for path in each.rglob("*") if path.is_file() and _is_visible(path.relative_to(each)))
        images = [path for path in below if _is_image(path)]
        if not images:
            raise DataError(f"{each} has no images ({', '.join(SUFFIXES)}); fill or remove it")
        if others := [path for path in below if not _is_image(path)]:
            log.warning("%s: %d other files are not read, such as %s", each, len(others), others[0].name)
        files += [(each.name, path) for path in images]
    return files


def _classes(parts: Mapping[str, Files]) -> Sequence[str]:
    """Return the names of the classes, sorted; the training files have all of them."""
    classes = sorted({name for name, _ in parts["train"]})
    for part, files in parts.items():
        if unknown := sorted({name for name, _ in files}.difference(classes)):
            raise DataError(f"{part} has the class {unknown[0]}, train has not{suggestion(unknown[0], classes)}")
    if len(classes) < 2:
        raise DataError(f"{classes[0]} is the only class; there should be two or more folders of images")
    return classes


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _is_visible(Path(path.name))]


def _is_visible(path: Path) -> bool:
    return not any(part.startswith(".") or part.lower() in SYSTEM for part in path.parts)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES
