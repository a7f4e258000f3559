"""Hugging Face datasets: a folder saved by save_to_disk, local files, or a name in the local cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Len

from experiments.config.registry import register
from experiments.data import image_cache, own_arrays
from experiments.data.image_cache import Named, Wanted
from experiments.data.own_arrays import Array
from experiments.data.splits import Splits
from experiments.data.stratify import Division, Seed, ValidFraction
from experiments.errors import DataError, first_line, suggestion
from experiments.files import expanded

TARGETS = ("label", "labels", "target", "targets", "class", "y")
FILES = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json"}
NUMBERS = ("int", "uint", "float", "double", "bool")
Positive = Annotated[int, Ge(1)]


@register.dataset("hf", prepare=image_cache.fitted, places=("cache",))
def hf(
    *,
    path: str,
    subset: str | None = None,
    x: str | list[str] | None = None,
    y: str | None = None,
    size: Positive | Annotated[list[Positive], Len(2, 2)] | None = None,
    mode: Literal["RGB", "L"] = "RGB",
    valid_fraction: ValidFraction = 0.2,
    seed: Seed = 0,
    skip_damaged: bool = False,
    cache: str = "data/images",
) -> Splits:
    """Read a Hugging Face dataset, as conf/dataset/hf.yaml explains.

    Raises:
        DataError: the package or the dataset is missing, or its columns are not images or numbers, and targets.
    """
    try:
        parts = _parts(_loaded(path, subset))
        columns, target = _columns(parts["train"].features, [x] if isinstance(x, str) else x, y)
        said = [f"x is {', '.join(columns)}, y is {target}"]
        targets, names = _targets(parts, target, said)
        if "valid" not in parts:
            whole, values = parts["train"], targets["train"]
            labels = values if values.dtype.kind in "biu" else None
            chosen = Division(valid_fraction, seed=seed).parts(len(values), labels=labels)
            parts |= {part: whole.select(rows) for part, rows in chosen.items()}
            targets |= {part: values[rows] for part, rows in chosen.items()}
        if _is_image(parts["train"].features[columns[0]]):
            images = {part: _images(dataset, columns[0], part) for part, dataset in parts.items()}
            source = [(part, dataset._fingerprint, columns) for part, dataset in parts.items()]
            arguments = image_cache.rows(images, targets, source, Wanted(size, mode, skip_damaged, cache))
        else:
            arguments = {part: (_numbers(dataset, columns, said), targets[part]) for part, dataset in parts.items()}
        splits = Splits.of(**arguments, classes=len(names) or None, labels=names, source=path, name="hf")
    except (DataError, OSError) as error:
        raise DataError(f"dataset.path={path}: {error}") from error
    own_arrays.report(splits, splits.train.tensors[0].numpy().dtype, said)
    return splits


def _loaded(path: str, subset: str | None) -> Any:
    """Return what the `datasets` library has at a path or under a name; nothing is downloaded."""
    try:
        import datasets
    except ImportError:
        raise DataError("dataset=hf needs the package datasets: pip install 'experiments[hf]'") from None
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    local, online = expanded(path), datasets.config.HF_HUB_OFFLINE
    if local.is_file() and local.suffix not in FILES:
        raise DataError(f"not one of these files: {', '.join(FILES)}")
    datasets.config.HF_HUB_OFFLINE = True
    try:
        if any((local / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return datasets.load_from_disk(str(local))
        if local.is_file():
            return datasets.load_dataset(FILES[local.suffix], data_files=str(local))
        return datasets.load_dataset(str(local) if local.is_dir() else path, subset)
    except Exception as error:  # a damaged file can raise anything
        if local.exists() or not isinstance(error, OSError):
            raise DataError(f"the package datasets cannot read it: {first_line(error)}") from error
        load = f"datasets.load_dataset({path!r})"
        raise DataError(f"no such file or folder, nor a name in the local cache; {load} downloads a name") from None
    finally:
        datasets.config.HF_HUB_OFFLINE = online


def _parts(loaded: Any) -> dict[str, Any]:
    """Return the splits by our names; a single one of any name is `train`."""
    theirs = dict(loaded) if isinstance(loaded, Mapping) else {"train": loaded}
    if len(theirs) == 1:
        return {"train": theirs.popitem()[1]}
    named = own_arrays.by_split(theirs)
    if "train" not in named or (others := theirs.keys() - set(named.values())):
        what = "without train" if "train" not in named else f"of which {', '.join(sorted(others))} have no known use"
        raise DataError(f"it has the splits {', '.join(theirs)}, {what}; expected train, validation and test")
    return {ours: theirs[name] for ours, name in named.items()}


def _columns(features: Mapping[str, Any], x: Sequence[str] | None, y: str | None) -> tuple[list[str], str]:
    """Return the columns of inputs and the column of targets."""
    for key, name in [("y", y), *(("x", each) for each in x or ())]:
        if name is not None and name not in features:
            raise DataError(f"dataset.{key}={name}: no such column{suggestion(name, features)}")
    target = y or next((name for name in TARGETS if name in features), None)
    if target is None:
        raise DataError(f"no column has the targets by its name; set dataset.y to one of {', '.join(features)}")
    others = [name for name in features if name != target]
    images = [name for name in others if _is_image(features[name])]
    inner = {name: getattr(features[name], "feature", features[name]) for name in others}  # a list's is of its numbers
    numbers = [name for name in others if str(getattr(inner[name], "dtype", "")).startswith(NUMBERS)]
    columns = [*x] if x else images or numbers
    text = [name for name in columns or others if getattr(features[name], "dtype", "") in ("string", "large_string")]
    if text:
        raise DataError(f"the column {text[0]!r} holds text, which dataset=text reads; dataset.x names other columns")
    if not columns or (len(columns) > 1 and any(_is_image(features[name]) for name in columns)):
        what = "images are read from one column" if columns else "no column has images or numbers"
        raise DataError(f"{what}; set dataset.x to one of {', '.join(others)}")
    return columns, target


def _images(dataset: Any, column: str, part: str) -> Iterator[Named]:
    """Yield the images of a split, as files or the bytes of files."""
    from datasets import Image

    for row, item in enumerate(dataset.select_columns([column]).cast_column(column, Image(decode=False))):
        image = item[column] or {"bytes": b""}
        yield f"{part} row {row}", Path(image["path"]) if image["bytes"] is None else image["bytes"]


def _is_image(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _targets(parts: Mapping[str, Any], column: str, said: list[str]) -> tuple[dict[str, Array], list[str]]:
    """Return the targets of each split, and the classes' names."""
    keys = {part: "y" if part == "train" else f"y_{part}" for part in parts}
    content = {key: _values(parts[part], column) for part, key in keys.items()}
    if names := getattr(parts["train"].features[column], "names", None):
        content["labels"] = np.array(names)
    found = own_arrays.targets(content, "auto", said)
    return {part: content[key] for part, key in keys.items()}, found


def _numbers(dataset: Any, columns: Sequence[str], said: list[str]) -> Array:
    """Return a column of rows as it is, several side by side."""
    values = [_values(dataset, column) for column in columns]
    for column, each in zip(columns, values, strict=True):
        if each.dtype.kind not in "biuf":
            raise DataError(f"the column {column!r} does not hold numbers, of one length in all rows")
    if len(values) > 1 or values[0].ndim == 1:
        return np.concatenate([each.reshape(len(each), -1) for each in values], axis=1)
    return own_arrays.images("x", values[0], "auto", None, said) if values[0].ndim == 4 else values[0]


def _values(dataset: Any, column: str) -> Array:
    return np.asarray(dataset.with_format("numpy", columns=[column])[:][column])
