"""A user's table: numbers, true and false, and text become rows of numbers, by the training rows alone."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from experiments.config.registry import register
from experiments.data.splits import Splits
from experiments.data.stratify import Division, Fold, Folds, Seed, TestFraction, ValidFraction
from experiments.errors import DataError

log = logging.getLogger(__name__)


@register.dataset("table")
def table(
    *,
    path: Path,
    target: str | list[str],
    drop: list[str] = [],  # noqa: B006  # never changed: it is only read
    categories: list[str] = [],  # noqa: B006
    targets: Literal["auto", "labels", "reals"] = "auto",
    standardize_target: bool = True,
    missing: Literal["refuse", "mean", "drop"] = "refuse",
    decimal: Literal["point", "comma"] = "point",
    group: str | None = None,
    valid_fraction: ValidFraction = 0.2,
    test_fraction: TestFraction = 0.0,
    seed: Seed = 0,
    stratify: bool | None = None,
    folds: Folds = None,
    fold: Fold = None,
) -> Splits:
    """Read a .csv, .tsv, .parquet or .jsonl file, as conf/dataset/table.yaml explains.

    Raises:
        DataError: the file is missing, is not such a table, or a column is missing or holds something else.
    """
    from experiments.data import table_columns, table_file  # late: pyarrow is for tables alone

    names, groups = [target] if isinstance(target, str) else target, [group] if group else []
    division = Division(valid_fraction, test_fraction, seed, stratify, folds, fold)
    try:
        rows = table_file.read(path, decimal)
        for key, given in {"target": names, "drop": drop, "categories": categories, "group": groups}.items():
            table_file.require(rows, given, f"dataset.{key}")
        table_file.require_targets(names, [*drop, *groups])
        kept = [name for name in rows.column_names if name not in drop or name in groups]
        rows = table_file.complete(rows.select(kept), [*names, *groups], missing)
        labels, y = table_columns.classes(rows, names, targets)
        parts = division.parts(len(rows), labels=y, groups=table_file.as_text(rows[group]) if group else None)
        goals = [table_columns.Column(names[0], labels)]
        if y is None:
            y, goals = table_columns.reals(rows.select(names), parts["train"], targets, standardize_target)
        inputs = rows.drop_columns([*names, *groups])
        columns = table_columns.fit(inputs, parts["train"], categories)
        x = table_columns.encode(columns, inputs)
    except DataError as error:
        raise DataError(f"dataset.path={path}: {error}") from None
    log.info("%s: %s", path, table_columns.report(columns, goals, x, y))
    sides: Any = {part: (x[chosen], y[chosen]) for part, chosen in parts.items()}
    extra = {"columns": [asdict(column) for column in columns], "targets": [asdict(goal) for goal in goals]}
    return Splits.of(**sides, classes=len(labels) or None, labels=labels, source=str(path), extra=extra)
