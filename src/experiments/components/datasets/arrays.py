"""A user's arrays in an .npz file: read without unpickling, and every assumption about them reported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Len, Lt

from experiments.config.registry import register
from experiments.data import own_arrays
from experiments.data.own_arrays import Array
from experiments.data.splits import Splits
from experiments.data.stratify import plain, stratified
from experiments.errors import DataError


@register.dataset("arrays")
def arrays(
    *,
    path: str,
    valid_fraction: Annotated[float, Gt(0), Lt(1)] = 0.2,
    seed: Annotated[int, Ge(0)] = 0,
    targets: Literal["auto", "labels", "reals"] = "auto",
    layout: Literal["auto", "channels_first", "channels_last"] = "auto",
    shape: Annotated[list[Annotated[int, Ge(1)]], Len(1)] | None = None,
) -> Splits:
    """Read x, images or rows of numbers, and y, labels or real targets, as conf/dataset/arrays.yaml explains.

    Raises:
        DataError: the file is missing, is not an .npz, or holds something else.
    """
    said: list[str] = []
    try:
        content = _read(Path(path), said)
        for name in [name for name in content if name.startswith("x")]:
            content[name] = own_arrays.images(name, content[name], layout, shape, said)
        names = own_arrays.targets(content, targets, said)
        splits = _splits(
            content, names, path, valid_fraction, seed, None if shape is None or len(shape) == 3 else shape
        )
    except DataError as error:
        raise DataError(f"dataset.path={path}: {error}") from None
    own_arrays.report(splits, content["x"].dtype, said)
    return splits


def _splits(
    content: dict[str, Array], names: list[str], path: str, valid_fraction: float, seed: int, shape: list[int] | None
) -> Splits:
    x, y = content["x"], content["y"]
    if len(x) != len(y):
        raise DataError(f"x has {len(x)} rows and y has {len(y)}")
    if len(x) < 2:  # one row for each split
        raise DataError(f"x has {len(x)} rows; a training and a validation split need two")
    test = (content["x_test"], content["y_test"]) if "x_test" in content else None
    if "x_valid" in content:
        train, valid = (x, y), (content["x_valid"], content["y_valid"])
    else:
        inside, outside = (stratified if y.dtype.kind in "biu" else plain)(y, fraction=valid_fraction, seed=seed)
        train, valid = (x[inside], y[inside]), (x[outside], y[outside])
    return Splits.of(
        train=train,
        valid=valid,
        test=test,
        shape=shape,
        source=path,
        name="arrays",
        labels=names,
        classes=len(names) or None,
    )


def _read(path: Path, said: list[str]) -> dict[str, Array]:
    """Return the arrays of a file by our names."""
    if not path.is_file():
        raise DataError("there is no such file")
    try:
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
