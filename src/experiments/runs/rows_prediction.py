"""Predict for rows of a table, or for a text, with a run's trained model; its dataset is not needed."""

from __future__ import annotations

import csv
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.data.tensors import ones, viewed
from experiments.data.vocabulary import Vocabulary
from experiments.errors import ConfigError, DataError, Fault
from experiments.runs.reading import TrainedModel
from experiments.runs.terminal import relative
from experiments.training.runner import Runner

YES_NO = {"true": "1", "false": "0"}


class RowReader(TrainedModel):
    """A run's trained model, for rows that a dataset's `extra` says how to read: under "columns" or "text".

    Raises:
        ConfigError: the run's dataset does not say so.
    """

    def __init__(self, folder: Path, reads: str) -> None:
        super().__init__(folder)
        if reads not in self.spec.extra:
            remedy = "--row and --rows read what dataset=table trained on, --text what dataset=text did"
            raise ConfigError(Fault(relative(folder), f"was trained on dataset {self.spec.name}; {remedy}"))

    def outputs(self, x: Tensor) -> Tensor:
        """Return the model's outputs (n, outputs, ...) for rows (n, ...); for labels, probabilities."""
        valid = self._runner.valid
        with torch.inference_mode():
            return self.in_words(self._runner.predict(viewed(valid.split.inputs(x.flatten(1)), valid.shape)))

    @cached_property
    def _runner(self) -> Runner:
        """The model's runner, whose data are two rows that nobody reads."""
        return self.runner(ones(self.spec.shape, self.spec.dtype))


def rows(folder: Path, row: str | None, file: Path | None) -> list[dict[str, float]]:
    """Return for each row, "area=100,rooms=3" or those of a table, its probability by class or its value by target.

    Raises:
        DataError: a column is missing, has gaps or holds something else.
    """
    import pyarrow as pa

    from experiments.data import table_columns, table_file

    reader = RowReader(folder, "columns")
    columns = [table_columns.Column(**column) for column in reader.spec.extra["columns"]]
    names = [column.name for column in columns]
    pairs = [part.partition("=") for part in next(csv.reader([row or ""]))]
    given = {name.strip(): [value.strip() or None] for name, _, value in pairs}
    for name in (column.name for column in columns if column.values is None and column.name in given):
        given[name] = [YES_NO.get(str(value).lower(), value) for value in given[name]]
    table = table_file.read(file) if file else pa.table({name: pa.array(v, pa.string()) for name, v in given.items()})
    table_file.require(table, names, "--rows" if file else "--row")
    if unknown := set(table.column_names if file is None else ()).difference(names):
        raise DataError(f"--row names {min(unknown)!r}, which is not an input; inputs: {', '.join(names)}")
    table = table.select(names)
    if gaps := [name for name in names if table[name].null_count and reader.root.dataset["missing"] != "mean"]:
        raise DataError(f"column {gaps[0]} has a missing value")
    for column in columns:
        new = set(table_file.as_text(table[column.name])) - {None, *(column.values or ())}
        if new and column.values is not None:
            print(f"{column.name}={min(new)} is unknown to the training rows and has no category", file=sys.stderr)
    found = reader.outputs(torch.from_numpy(table_columns.encode(columns, table))).double()
    goals = [table_columns.Column(**goal) for goal in reader.spec.extra["targets"]]
    if reader.spec.classes:
        return [dict(zip(reader.spec.labels, values, strict=True)) for values in found.tolist()]
    if reader.root.loss["name"] == "binary_cross_entropy":
        found = found.sigmoid()
    return [
        {goal.name: value * goal.std + goal.mean for goal, value in zip(goals, values, strict=True)}
        for values in found.tolist()
    ]


def text(folder: Path, given: str, count: int) -> str | dict[str, float]:
    """Return the probability of each class of a text, or the text of its `count` likeliest next tokens."""
    reader = RowReader(folder, "text")
    settings: dict[str, Any] = dict(reader.spec.extra["text"])
    length = settings.pop("length")
    known = Vocabulary(**settings)
    tokens = known.encode(given)
    if not tokens:
        raise DataError("--text has no tokens")
    if unknown := tokens.count(1):
        print(f"{unknown} of {len(tokens)} tokens are unknown to the training text", file=sys.stderr)
    if not reader.spec.places:
        row = (tokens + [0] * length)[:length]
        return dict(zip(reader.spec.labels, reader.outputs(torch.tensor([row]))[0].tolist(), strict=True))
    start = len(tokens)
    for _ in range(count):
        last = tokens[-length:]
        found = reader.outputs(torch.tensor([last + [0] * (length - len(last))]))[0, :, len(last) - 1]
        tokens.append(2 + int(found[2:].argmax()))  # neither padding nor an unknown token
    return known.decode(tokens[start:])
