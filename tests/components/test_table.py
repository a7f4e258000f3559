"""A user's table: columns as numbers by the training rows, targets, and each bad file with its message."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.components.datasets.table import table
from experiments.errors import DataError

AREA = np.random.default_rng(0).uniform(40, 200, 60).round(1)
KIND = np.array(["flat", "house", "loft"])[np.arange(60) % 3]
ROWS = [
    f"{a},{k},{'true' if i % 2 else 'false'},{2 * a + i % 7}" for i, (a, k) in enumerate(zip(AREA, KIND, strict=True))
]


def save(folder: Path, text: str, name: str = "own.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def houses(folder: Path, **settings: Any) -> Any:
    return table(path=save(folder, "\n".join(["area,kind,garden,price", *ROWS])), **{"target": "price"} | settings)


def test_numbers_are_standardised_by_the_training_rows(tmp_path: Path) -> None:
    x, y = houses(tmp_path).train.tensors
    assert x.shape == (48, 5)
    torch.testing.assert_close(x[:, 0].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(x[:, 0].std(correction=0), torch.tensor(1.0))
    torch.testing.assert_close(y.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)


def test_text_is_a_1_for_its_category(tmp_path: Path) -> None:
    x, _ = houses(tmp_path).train.tensors
    assert x[:, 1:4].sum(dim=1).eq(1).all()
    assert set(x[:, 4].tolist()) == {0.0, 1.0}


def test_a_target_of_text_is_classes(tmp_path: Path) -> None:
    spec = houses(tmp_path, target="kind").spec
    assert (spec.classes, spec.labels, spec.shape) == (True, ("flat", "house", "loft"), (3,))


def test_several_targets_of_0_and_1_are_several_labels(tmp_path: Path) -> None:
    path = save(tmp_path, "a,b,c\n" + "\n".join(f"{i % 5},{i % 2},{i % 3 // 2}" for i in range(60)))
    splits = table(path=path, target=["b", "c"])
    assert splits.spec.outputs == 2
    assert set(splits.train.tensors[1].unique().tolist()) == {0.0, 1.0}


def test_the_mean_fills_gaps_in_inputs(tmp_path: Path) -> None:
    path = save(tmp_path, "\n".join(["area,kind,garden,price", ",flat,true,80", *ROWS]))
    splits = table(path=path, target="price", missing="mean")
    x = torch.cat([splits.train.tensors[0], splits.valid.tensors[0]])
    assert (x[:, 0] == 0).sum() == 1
    assert table(path=path, target="price", missing="drop").spec.sizes == {"train": 48, "valid": 12}


def test_a_column_that_numbers_the_rows_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"{number},{row}" for number, row in enumerate(ROWS)]
    with caplog.at_level(logging.WARNING):
        table(path=save(tmp_path, "\n".join(["id,area,kind,garden,price", *rows])), target="price")
    assert "column id numbers the rows; dataset.drop=[id] leaves it out" in caplog.text


FILES: dict[str, tuple[str, dict[str, Any], str]] = {
    "gaps": ("a,b\n1,2\n,3\n", {}, "missing in 2 rows: a 1; dataset.missing=drop keeps the 1"),
    "a word": ("a,b\n1,2\n5,2\nx,3\n", {}, "column a: row 3 holds 'x' among numbers"),
    "a comma": ('a;b\n"1,5";2\n"2,5";3\n', {}, "'1,5' among numbers; dataset.decimal=comma"),
    "a date": ("a,b\n2020-01-01,2\n2020-01-02,3\n", {}, "column a holds date32.*dataset.drop="),
    "no target": ("a,c\n1,2\n", {}, "dataset.target names no column 'b'.*available: a, c"),
    "a ragged row": ("a,b\n1,2\n1,2,3\n", {}, "Expected 2 columns, got 3"),
    "one value": ("a,b\n1,2\n2,2\n", {}, "b is 2 in each row"),
    "no input": ("b\n1\n2\n", {}, "no column is left"),
    "two names": ("a,a,b\n1,2,3\n", {}, "two columns called 'a'"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_bad_file_is_refused_in_a_line(kind: str, tmp_path: Path) -> None:
    content, settings, reason = FILES[kind]
    with pytest.raises(DataError, match=rf"dataset\.path=.*own\.csv: .*{reason}"):
        table(path=save(tmp_path, content), target="b", **settings)


def test_a_target_of_text_with_separators_is_one_line(tmp_path: Path) -> None:
    text = "a,b\n" + "".join(f'{i},"{i},{i}00"\n' for i in range(1, 20))
    with pytest.raises(DataError, match=r"column b holds text such as '1,100'.*decimal=comma"):
        table(path=save(tmp_path, text), target="b", targets="reals")
