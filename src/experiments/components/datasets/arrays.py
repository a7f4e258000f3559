"""A user's arrays in an .npz file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Lt

from experiments.config.registry import register
from experiments.data.splits import Splits
from experiments.data.stratify import plain, stratified
from experiments.errors import DataError

EXPECTED = "x and y, perhaps x_valid and y_valid, x_test and y_test"
NAMES = ("x", "y", "x_valid", "y_valid", "x_test", "y_test")


@register.dataset("arrays")
def arrays(
    *, path: str, valid_fraction: Annotated[float, Gt(0), Lt(1)] = 0.2, seed: Annotated[int, Ge(0)] = 0
) -> Splits:
    """Read x (n, height, width) or (n, channels, height, width), and y, labels or real targets.

    Without x_valid and y_valid in the file, `valid_fraction` of the rows is split off, of each class in the same share
    where y is labels. Bytes are read as pixel / 256, other numbers as float32.

    Raises:
        DataError: the file is missing, is not an .npz, or holds something else.
    """
    content = _read(Path(path))
    x, y = content["x"], content["y"]
    if len(x) != len(y):
        raise DataError(f"dataset.path={path}: x has {len(x)} rows and y has {len(y)}")
    if len(x) < 2:  # one row for each split
        raise DataError(f"dataset.path={path}: x has {len(x)} rows; a training and a validation split need two")
    test = (content["x_test"], content["y_test"]) if "x_test" in content else None
    if "x_valid" in content:
        train, valid = (x, y), (content["x_valid"], content["y_valid"])
    else:
        labelled = y.dtype.kind in "biu" and y.ndim == 1
        inside, outside = (stratified if labelled else plain)(y, fraction=valid_fraction, seed=seed)
        train, valid = (x[inside], y[inside]), (x[outside], y[outside])
    try:
        return Splits.of(train=train, valid=valid, test=test, source=path, name="arrays")
    except DataError as error:
        raise DataError(f"dataset.path={path}: {error}") from None


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise DataError(f"dataset.path={path}: there is no such file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = archive.files
            content = {name: np.asarray(archive[name]) for name in NAMES if name in names}
    except Exception as error:  # a damaged file can raise anything
        raise DataError(f"dataset.path={path}: not an .npz of plain arrays ({error})") from error
    missing = [name for name in ("x", "y") if name not in content]
    for part in ("valid", "test"):
        pair = {f"x_{part}", f"y_{part}"}
        if pair & content.keys():
            missing += sorted(pair - content.keys())
    if missing:
        found = ", ".join(sorted(names)) or "nothing"
        raise DataError(
            f"dataset.path={path}: {', '.join(missing)} missing; it should hold {EXPECTED}; it holds {found}"
        )
    for name, array in content.items():
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8 or array.ndim == 0:
            found = f"{array.dtype} of the shape {array.shape}"
            raise DataError(f"dataset.path={path}: {name} holds {found}, not rows of numbers")
    # torch takes the machine's byte order only.
    return {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in content.items()}
