"""Read a table; what is wrong in its file is reported by column and row."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from experiments.errors import DataError, first_line, suggestion

KINDS = (".csv", ".tsv", ".parquet", ".jsonl")
SEPARATORS = (",", ";", "\t", "|")
DECIMALS = {"point": ".", "comma": ","}
NUMBER = r"^[-+]?(\d+([.,]\d*)*|\.\d+)([eE][-+]?\d+)?$"
USABLE = (pa.types.is_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating)


def read(path: Path, decimal: str = "point") -> pa.Table:
    """Return the columns; text has no spaces around it, and empty text and what is not finite are missing.

    Raises:
        DataError: the file is missing or is not a table.
    """
    if path.suffix.lower() not in KINDS:
        raise DataError(f"not a table; expected a {', '.join(KINDS)} file")
    if not path.is_file():
        raise DataError("there is no such file")
    try:
        table = _read(path, decimal)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        remedy = "; save it as UTF-8" if "utf" in str(error).lower() else ""
        raise DataError(f"not a table: {first_line(error)}{remedy}") from None
    names = [name.strip() for name in table.column_names]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"there are two columns called {min(twice)!r}")
    return pa.table(dict(zip(names, map(_plain, table.columns), strict=True)))


def _read(path: Path, decimal: str) -> pa.Table:
    from pyarrow import csv, json, parquet  # late: each takes its time

    if path.suffix.lower() == ".parquet":
        return parquet.read_table(path)
    whole = {"use_threads": False, "block_size": min(path.stat().st_size + 1, 1 << 30)}  # types are inferred in a block
    if path.suffix.lower() == ".jsonl":
        return json.read_json(path, json.ReadOptions(**whole))
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline()
    return csv.read_csv(
        path,
        csv.ReadOptions(**whole),
        csv.ParseOptions(delimiter=max(SEPARATORS, key=header.count), newlines_in_values=True),
        csv.ConvertOptions(strings_can_be_null=True, decimal_point=DECIMALS[decimal]),
    )


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        column = column.cast(pa.float64())
        return pc.if_else(pc.is_finite(column), column, None)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = pc.utf8_trim_whitespace(column.cast(pa.string()))
        return pc.if_else(pc.equal(column, ""), None, column)
    return column


def require(table: pa.Table, names: Iterable[str | None], key: str) -> None:
    """Check that the table has the columns that a setting names."""
    for name in filter(None, names):
        if name not in table.column_names:
            raise DataError(f"{key} names no column {name!r}{suggestion(name, table.column_names)}")


def complete(rows: pa.Table, needed: Iterable[str], missing: str) -> pa.Table:
    """Return rows without gaps where `missing` is drop, with gaps in columns that are not `needed` where it is mean.

    Raises:
        DataError: there are other gaps; the message counts them by column.
    """
    rows = rows.drop_null() if missing == "drop" else rows
    counts = {name: rows[name].null_count for name in (needed if missing == "mean" else rows.column_names)}
    if gaps := ", ".join(f"{name} {count:,}" for name, count in counts.items() if count):
        remedy = f"dataset.missing=drop keeps the {len(rows.drop_null()):,} complete ones, missing=mean fills inputs"
        raise DataError(f"values are missing in {len(rows):,} rows: {gaps}; {remedy}, dataset.drop=[...] drops columns")
    return rows


def as_text(column: pa.ChunkedArray) -> Any:
    """Return each value as text (n,), None where it is missing."""
    return column.cast(pa.string()).to_numpy()


def numbers(name: str, column: pa.ChunkedArray) -> Any:
    """Return float64 (n,), NaN where one is missing.

    Raises:
        DataError: the column holds something else.
    """
    if pa.types.is_string(column.type) and (row := _first(column, NUMBER, False)) >= 0:
        raise DataError(f"column {name}: row {row + 1} holds {column[row].as_py()!r}, which is not a number")
    if not any(is_usable(column.type) for is_usable in USABLE):
        raise DataError(f"column {name} holds {column.type}; make it numbers, or leave it out: dataset.drop=[{name}]")
    try:
        return column.cast(pa.float64(), safe=False).to_numpy()
    except pa.ArrowInvalid:
        remedy = "write numbers with a point and no separators, or set dataset.decimal=comma"
        raise DataError(f"column {name} holds text such as {column.drop_null()[0].as_py()!r}; {remedy}") from None


def require_words(name: str, column: pa.ChunkedArray) -> None:
    """Check that text is not numbers with a decimal comma, or numbers with other values among them."""
    share = pc.mean(pc.match_substring_regex(column, NUMBER)).as_py() or 0
    remedy = f"correct it, or set dataset.drop=[{name}] or dataset.categories=[{name}]"
    if share == 1 and (row := _first(column, ",", True)) >= 0:
        remedy = "dataset.decimal=comma reads a decimal comma"
    elif not 0.5 < share < 1 or (row := _first(column, NUMBER, False)) < 0:
        return
    raise DataError(f"column {name}: row {row + 1} holds {column[row].as_py()!r} among numbers; {remedy}")


def _first(column: pa.ChunkedArray, pattern: str, matches: bool) -> int:
    """Return the first row of text that matches a pattern, or does not; -1 for none."""
    return int(pc.index(pc.match_substring_regex(column, pattern), matches).as_py())
