"""A table's columns as numbers: fitted on the training rows, and kept in the run for rows that come later."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from experiments.data.table_file import USABLE, as_text, numbers, require_words
from experiments.errors import DataError

log = logging.getLogger(__name__)
Array = NDArray[Any]
MOST_CATEGORIES = 100
MOST_CLASSES = 20  # of whole numbers that are not declared as labels
ROWS_OF_CLASS = 5  # at least, on average, likewise
ALIKE = 0.99999  # the correlation of numbers that are the same in other units


@dataclass(frozen=True)
class Column:
    """How a column becomes numbers: text a 1 for its category and 0 for each other of `values`, a number scaled."""

    name: str
    values: Sequence[str] | None = None
    mean: float = 0.0
    std: float = 1.0

    @classmethod
    def of(cls, name: str, column: pa.ChunkedArray, rows: Array, *, category: bool = False) -> Column:
        """Return the column fitted on these rows; true and false are 1 and 0, any `category` is text.

        Raises:
            DataError: it holds something else, numbers as text, or too many different texts.
        """
        if category or pa.types.is_string(column.type):
            values = sorted(filter(None, set(as_text(column.take(rows)))))
            if not category:
                require_words(name, column)
            if len(values) > MOST_CATEGORIES and not category:
                problem = f"column {name} has {len(values):,} different texts, such as {values[0]!r}"
                raise DataError(f"{problem}; set dataset.drop=[{name}], or dataset.categories=[{name}] for all of them")
            return cls(name, values)
        found = numbers(name, column)[rows]
        if pa.types.is_boolean(column.type):
            return cls(name)
        return cls(name, mean=float(np.nanmean(found)), std=float(np.nanstd(found)) or 1.0)

    def encode(self, column: pa.ChunkedArray) -> Any:
        """Return (n, 1) or (n, categories); a missing number is the mean, an unknown category 0 everywhere."""
        if self.values is None:
            return np.nan_to_num((numbers(self.name, column) - self.mean) / self.std)[:, None]
        return np.equal(as_text(column)[:, None], np.array(self.values, object))


def fit(rows: pa.Table, train: Array, categories: Sequence[str] = ()) -> list[Column]:
    """Return the columns fitted on the training rows; those in `categories` are text."""
    if not rows.column_names:
        raise DataError("no column is left as an input")
    return [Column.of(name, rows[name], train, category=name in categories) for name in rows.column_names]


def encode(columns: Sequence[Column], rows: pa.Table) -> NDArray[np.float32]:
    """Return the rows of a table as numbers (n, features)."""
    return np.concatenate([column.encode(rows[column.name]) for column in columns], axis=1).astype(np.float32)


def classes(rows: pa.Table, names: Sequence[str], kind: str) -> tuple[list[str], Array | None]:
    """Return the classes of a target, sorted, and that of each row (n,); none where it is real, or there are several.

    `kind` is labels, reals, or auto: text, true and false, and few different whole numbers are labels.

    Raises:
        DataError: all values of a target are equal, or of another kind.
    """
    for name in names:
        if not any(is_usable(rows[name].type) for is_usable in USABLE):
            raise DataError(f"the target {name} holds {rows[name].type}; make it numbers, or text for classes")
        if len(values := rows[name].unique()) == 1:
            raise DataError(f"{name} is {values[0].as_py()!r} in each row, so there is nothing to learn")
    if len(names) > 1 or kind == "reals":
        return [], None
    column = rows[names[0]]
    words = pa.types.is_string(column.type) or pa.types.is_boolean(column.type)
    few = len(values) <= MOST_CLASSES and len(values) * ROWS_OF_CLASS <= len(column)
    whole = pa.types.is_floating(column.type) and pc.all(pc.equal(values, pc.round(values))).as_py()
    if whole and kind == "labels":
        return classes(pa.table({names[0]: numbers(names[0], column).astype(np.int64)}), names, kind)
    if whole and few:
        log.warning("%s holds whole numbers as floats: real targets, unless dataset.targets=labels", names[0])
    if not words and not (pa.types.is_integer(column.type) and (few or kind == "labels")):
        return [], None
    found = as_text(pa.chunked_array([values.sort()])).tolist()
    return found, Column(names[0], found).encode(column).argmax(axis=1)


def reals(rows: pa.Table, train: Array, kind: str, standardize: bool) -> tuple[Array, list[Column]]:
    """Return targets (n, columns), int64 where several hold 0 and 1 alone, and how they were scaled."""
    plain = [Column(name) for name in rows.column_names]
    y = encode(plain, rows)
    if len(plain) > 1 and kind != "reals" and np.isin(y, (0, 1)).all():
        return y.astype(np.int64), plain
    if kind == "labels":
        raise DataError("dataset.targets=labels takes one target of text or whole numbers, or several of 0 and 1")
    scaled = fit(rows, train) if standardize else plain
    return encode(scaled, rows), scaled


def report(columns: Sequence[Column], goals: Sequence[Column], x: Array, y: Array) -> str:
    """Return in words what was read; warn of columns that carry nothing, number the rows, or are a target again."""
    widths = [1 if column.values is None else len(column.values) for column in columns]
    again = np.eye(len(goals[0].values))[y] if goals[0].values else y
    marks = {"numbers the rows": np.arange(len(x))[:, None], "is a target again": again}
    for column, values in zip(columns, np.split(x, np.cumsum(widths)[:-1], axis=1), strict=True):
        same = [problem for problem, those in marks.items() if _same(values, those)]
        if problem := "".join(same[:1]) if np.ptp(values, axis=0).any() else "is constant":
            log.warning("column %s %s; dataset.drop=[%s] leaves it out", column.name, problem, column.name)
    texts = [len(column.values) for column in columns if column.values is not None]
    kinds = f"{len(columns) - len(texts)} columns of numbers"
    kinds += f", {len(texts)} of text as {sum(texts)} of 0 and 1" if texts else ""
    return f"{len(x):,} rows; {kinds}; target {', '.join(map(_in_words, goals))}"


def _in_words(goal: Column) -> str:
    if goal.values is None:
        return f"{goal.name} as (value - {goal.mean:g}) / {goal.std:g}"
    more = ", ..." if len(goal.values) > 10 else ""
    return f"{goal.name}: {len(goal.values)} classes ({', '.join(goal.values[:10])}{more})"


def _same(values: Array, marks: Array) -> bool:
    """Return whether each column of `values` is one of `marks` in another unit."""
    with np.errstate(invalid="ignore", divide="ignore"):  # of constant columns
        found = np.corrcoef(values, marks, rowvar=False)[: values.shape[1], values.shape[1] :]
    return bool((np.nan_to_num(abs(found)).max(axis=1) > ALIKE).all())
