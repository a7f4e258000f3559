"""What a user's arrays are: their names, the images' layout, labels or real targets.

Each rule appends to `said` what it assumed, logs a warning of what is probably meant otherwise, or raises a DataError.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np

from experiments.data.items import CHANNELS
from experiments.data.splits import Splits
from experiments.data.tensors import is_image, require_order
from experiments.errors import DataError

log = logging.getLogger(__name__)

Array = np.ndarray[Any, Any]
AXES = {"x": ("x", "image", "images", "data"), "y": ("y", "label", "labels", "target", "targets")}
PARTS = {"": ("", "train"), "_valid": ("valid", "val", "validation"), "_test": ("test",)}
SPLITS = {name: ours.removeprefix("_") or "train" for ours, names in PARTS.items() for name in names if name}
NAMES = {  # ours, by every common spelling: x_train, train_images, ...
    "_".join(filter(None, words)): axis + part
    for axis, part in product(AXES, PARTS)
    for pair in product(AXES[axis], PARTS[part])
    for words in (pair, reversed(pair))
}
EXPECTED = "x and y, perhaps x_valid and y_valid, x_test and y_test, labels (the classes' names)"
LARGE = 30  # real numbers beyond it are not standardised, and a training would diverge


def named(files: Sequence[str], said: list[str]) -> dict[str, str]:
    """Return the file's name of each array by ours: x, y, ..., and labels for the classes' names."""
    fits: dict[str, list[str]] = {}
    for name in files:
        fits.setdefault(NAMES.get(name.lower(), ""), []).append(name)
    found = {"labels": "labels"} if "labels" in files and len(fits["y"]) > 1 else {}
    for ours, theirs in fits.items():
        exact = [name for name in theirs if name == ours] or [name for name in theirs if name not in found]
        if ours and len(exact) > 1:
            raise DataError(f"{' and '.join(exact)} can both be {ours}; save one of them as {ours}")
        found |= {ours: exact[0]} if ours else {}
    said += [f"{ours} is {theirs!r}" for ours, theirs in found.items() if ours != theirs]
    missing = [name for name in ("x", "y") if name not in found]
    for pair in ({"x_valid", "y_valid"}, {"x_test", "y_test"}):
        missing += sorted(pair - found.keys()) if pair & found.keys() else []
    if missing:
        holds = ", ".join(sorted(files)) or "nothing"
        raise DataError(f"{', '.join(missing)} missing; it should hold {EXPECTED}; it holds {holds}")
    return found


def by_split(theirs: Iterable[str]) -> dict[str, str]:
    """Return their name of each split by ours, as far as it is a split's."""
    found: dict[str, str] = {}
    for name in theirs:
        if ours := SPLITS.get(name.lower()):
            if ours in found:
                raise DataError(f"{found[ours]} and {name} are the same split; keep one of them")
            found[ours] = name
    return found


def images(name: str, x: Array, layout: str, shape: Sequence[int] | None, said: list[str]) -> Array:
    """Return rows of any shape, images as (n, height, width) or (n, channels, height, width); `shape` is of one."""
    if shape is not None:
        if x[:1].size != math.prod(shape) and len(x):
            raise DataError(
                f"{name} has the shape {x.shape}; dataset.shape={list(shape)} needs {math.prod(shape)} numbers"
            )
        if layout != "channels_last":
            require_order(x.shape[1:], shape)
        x = x.reshape(len(x), *([*shape[1:], shape[0]] if layout == "channels_last" and len(shape) == 3 else shape))
    elif x.ndim < 3:
        side, size = math.isqrt(math.prod(x.shape[1:])), math.prod(x.shape[1:])
        example = f"; if they are images: dataset.shape=[1,{side},{side}]" if side * side == size > 1 else ""
        said.append(f"{name} {x.shape} is rows of numbers{example}")
        return x
    elif layout == "auto" and x.ndim == 4 and x.shape[3] in CHANNELS and x.shape[1] not in CHANNELS:
        said.append(f"{name} {x.shape} has its channels last (if not: dataset.layout=channels_first)")
        layout = "channels_last"
    if x.ndim > 2 and x.dtype.kind in "iub" and x.dtype != np.uint8:  # pixels, which a model takes as float32
        x = x.astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(x, 3, 1)) if layout == "channels_last" and x.ndim == 4 else x


def targets(content: dict[str, Array], kind: str, said: list[str]) -> list[str]:
    """Make each y of `content` labels from 0 on, or real targets; return the classes' names, if they have any."""
    parts = [name for name in content if name.startswith("y")]
    names = [str(name) for name in content["labels"].ravel()] if "labels" in content else []
    content |= {name: _column(name, content[name], kind, said) for name in parts}
    kinds = {content[name].dtype.kind for name in parts}
    if "U" in kinds and len(kinds) > 1:
        raise DataError(f"{' and '.join(parts)} hold text and numbers; labels are one or the other")
    if "f" in kinds:
        if kind == "auto" and all((content[name] == np.round(content[name])).all() for name in parts):
            log.warning("y holds whole numbers as floats: real targets, unless dataset.targets=labels")
        return []
    values = np.unique(np.concatenate([content[name] for name in parts]))
    if "U" in kinds:
        names = names or values.tolist()
        if unknown := sorted(set(values.tolist()) - set(names)):
            raise DataError(f"y holds {unknown[0]!r}, which is not among the labels {', '.join(names)}")
        numbers = {name: number for number, name in enumerate(names)}
        content |= {name: np.array([numbers[value] for value in content[name].tolist()]) for name in parts}
    elif len(values) and values[0] == 1 and len(names) in (0, values[-1]):
        names = names or [str(number) for number in range(1, int(values[-1]) + 1)]
        content |= {name: content[name].astype(np.int64) - 1 for name in parts}
    return names


def _column(name: str, y: Array, kind: str, said: list[str]) -> Array:
    """Return text or whole numbers as (n,), real targets as they are."""
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    if kind == "reals" or (y.dtype.kind == "f" and kind == "auto"):
        if y.dtype.kind == "U":
            raise DataError(f"{name} holds text; dataset.targets=reals reads numbers")
        return y.astype(np.float32) if y.dtype.kind != "f" else y
    if y.dtype.kind == "f":
        if not (np.isfinite(y) & (y == np.round(y))).all():
            raise DataError(f"{name} holds numbers that are not whole; dataset.targets=labels reads labels")
        y = y.astype(np.int64)
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if y.ndim == 2 and y.dtype.kind != "U" and ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all():
        said.append(f"{name} {y.shape} is one-hot")
        return y.nonzero()[1]
    if y.ndim != 1:
        problem = "labels are one a row, or one-hot; dataset.targets=reals reads real targets"
        raise DataError(f"{name} holds {y.dtype} of the shape {y.shape}; {problem}")
    return y


def report(splits: Splits, dtype: Any, said: Sequence[str]) -> None:
    """Log what the data was read as, in one line, and warn of pixels that are not scaled and classes without rows."""
    spec, (x, y) = splits.spec, splits.train.tensors
    kind = "images" if is_image(spec.shape) else "rows"
    pixels = kind == "images" and dtype == np.uint8
    scale = "pixels / 256" if pixels else "as they are"
    what = f"{spec.outputs} {'classes' if spec.classes else 'real targets'}"
    names = f" ({', '.join(spec.labels[:10])}{', ...' if len(spec.labels) > 10 else ''})" if spec.labels else ""
    shape = "x".join(map(str, spec.shape))
    log.info("%s: %s", spec.source, "; ".join([f"{kind} of {shape}, {dtype} {scale}", f"{what}{names}", *said]))
    x = x[: 0 if pixels else 1000].float()
    largest = 0 if pixels or spec.dtype == "int64" else float(x.abs().max())
    if largest > (1 if bool((x == x.round()).all()) else LARGE):
        log.warning("x holds %s up to %g, taken as they are: divide x, or save pixels as uint8", dtype, largest)
    if spec.classes and (empty := sorted(set(range(spec.outputs)) - set(y.tolist()))):
        log.warning(
            "no training row has the class %s", ", ".join(spec.labels[c] if spec.labels else str(c) for c in empty)
        )
    if spec.classes and spec.outputs == 1:
        log.warning("y holds a single class, so there is nothing to learn")
