"""A user's arrays in an .npz file: read without unpickling, and every assumption about them reported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from zipfile import is_zipfile

import numpy as np
from annotated_types import Ge, Len

from experiments.config.registry import register
from experiments.data import own_arrays
from experiments.data.own_arrays import Array
from experiments.data.splits import Splits
from experiments.data.stratify import Division, Fold, Folds, Seed, TestFraction, ValidFraction
from experiments.errors import DataError


@register.dataset("arrays")
def arrays(
    *,
    path: str,
    valid_fraction: ValidFraction = 0.2,
    test_fraction: TestFraction = 0.0,
    seed: Seed = 0,
    stratify: bool | None = None,
    folds: Folds = None,
    fold: Fold = None,
    targets: Literal["auto", "labels", "reals"] = "auto",
    layout: Literal["auto", "channels_first", "channels_last"] = "auto",
    shape: Annotated[list[Annotated[int, Ge(1)]], Len(1)] | None = None,
) -> Splits:
    """Read x, images or rows of numbers, and y, labels or real targets, as conf/dataset/arrays.yaml explains.

    Raises:
        DataError: the file is missing, is neither an .npz nor a folder of .npy files, or holds something else.
    """
    said: list[str] = []
    try:
        content = _read(Path(path), said)
        for name in [name for name in content if name.startswith("x")]:
            content[name] = own_arrays.images(name, content[name], layout, shape, said)
        names = own_arrays.targets(content, targets, said)
        division = Division(valid_fraction, test_fraction, seed, stratify, folds, fold)
        splits = _splits(content, names, path, division, None if shape is None or len(shape) == 3 else shape)
    except DataError as error:
        raise DataError(f"dataset.path={path}: {error}") from None
    own_arrays.report(splits, content["x"].dtype, said)
    return splits


def _splits(
    content: dict[str, Array], names: list[str], path: str, division: Division, shape: list[int] | None
) -> Splits:
    x, y = content["x"], content["y"]
    if len(x) != len(y):
        raise DataError(f"x has {len(x)} rows and y has {len(y)}")
    if len(x) < 2:  # one row for each split
        raise DataError(f"x has {len(x)} rows; a training and a validation split need two")
    own: dict[str, Any] = {
        part: (content[f"x_{part}"], content[f"y_{part}"]) for part in ("valid", "test") if f"x_{part}" in content
    }
    if ("valid" in own and division.folds) or (own and division.test_fraction):
        raise DataError(f"it has a split of its own, x_{min(own)}; remove that, or dataset.folds and test_fraction")
    parts: dict[str, Any] = {"train": (x, y)}
    if "valid" not in own:
        chosen = division.parts(len(y), labels=y if y.dtype.kind in "biu" else None)
        parts = {part: (x[rows], y[rows]) for part, rows in chosen.items()}
    given = {**parts, **own}
    return Splits.of(**given, shape=shape, source=path, name="arrays", labels=names, classes=len(names) or None)


def _read(path: Path, said: list[str]) -> dict[str, Array]:
    """Return the arrays of a file by our names; those of a folder's .npy files are memory-mapped."""
    if not path.exists():
        raise DataError("there is no such file")
    files = {file.stem: file for file in path.glob("*.npy")} if path.is_dir() else {}
    if path.is_dir() and not files:
        raise DataError("a folder without .npy files; np.save writes x.npy and y.npy, np.savez one .npz of both")
    if not files and not is_zipfile(path):
        raise DataError("not an .npz of plain arrays; np.savez(path, x=x, y=y) writes one")
    try:
        if files:
            ours = own_arrays.named(list(files), said)
            # A change in place stays in memory, and the file as it is.
            content = {name: np.load(files[theirs], mmap_mode="c", allow_pickle=False) for name, theirs in ours.items()}
        else:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                ours = own_arrays.named(archive.files, said)
                content = {name: np.asarray(archive[theirs]) for name, theirs in ours.items()}
    except DataError:
        raise
    except Exception as error:  # a damaged file can raise anything
        remedy = "; save text as y.astype(str), numbers as numbers" if "Object arrays" in str(error) else ""
        raise DataError(f"not an .npz of plain arrays ({error}{remedy})") from error
    for name, array in content.items():
        text = array.dtype.kind in "US" and not name.startswith("x")
        if (not text and (array.dtype.kind not in "biuf" or array.dtype.itemsize > 8)) or array.ndim == 0:
            raise DataError(f"{name} holds {array.dtype} of the shape {array.shape}, not rows of numbers")
    # torch takes the machine's byte order only.
    return {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in content.items()}
