"""A table is no wider than a terminal where its keys can be broken; in Markdown each row is one line."""

from __future__ import annotations

import pytest
from rich.console import Console

from experiments import live
from experiments.runs.tables import WIDTH, head, table

ROW = {
    "job": "0",
    "model": "cnn_adaptive",
    "optim": "sgd_momentum",
    "best/valid_loss": "0.2611",
    "valid/loss": "0.2611",
    "valid/accuracy": "0.9200",
    "seconds": "13.9",
    "status": "FINISHED",
}


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table([{"job": "0", "optim.lr": "0.1"}]) == "job  optim.lr\n---  --------\n0    0.1"


def test_keys_are_broken_where_the_table_is_wider_than_a_terminal() -> None:
    lines = table([ROW]).splitlines()
    assert [line.rstrip() for line in lines[:2]] == [
        "job  model         optim         best/       valid/  valid/    seconds  status",
        "                                 valid_loss  loss    accuracy",
    ]
    assert max(map(len, lines)) <= WIDTH


def test_markdown_has_a_line_for_each_row_however_wide() -> None:
    head, _, row = table([ROW], markdown=True).splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")] == list(ROW)
    assert [cell.strip() for cell in row.strip("|").split("|")] == list(ROW.values())


def test_numbers_stay_as_they_are_written() -> None:
    assert table([{"lr": "1e-3", "seed": "007"}]).splitlines()[-1].split() == ["1e-3", "007"]


def test_no_rows_are_no_table() -> None:
    assert table([]) == table([], markdown=True) == ""


def columns(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Make the output a terminal of so many columns."""
    monkeypatch.setattr(live, "terminal", lambda: Console(width=width))


def test_on_a_narrow_terminal_columns_are_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    columns(monkeypatch, 60)
    text = table([ROW, ROW | {"job": "1", "status": "FAILED"}], least=["valid/loss"], whole="summary.md")
    assert max(map(len, text.splitlines()[:4])) <= 60
    assert text.splitlines()[-1] == "left out for the width: valid/loss, seconds, valid/accuracy (summary.md)"


def test_the_first_column_stays_however_narrow_the_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    columns(monkeypatch, 1)
    assert table([ROW]).splitlines()[:3] == ["job", "---", "0"]


def test_a_wide_terminal_has_whole_keys_and_all_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    columns(monkeypatch, 120)
    assert table([ROW]).splitlines()[0].split() == list(ROW)


def test_in_a_pipe_no_column_is_left_out() -> None:
    text = table([ROW | {f"key{number}": 10 * "x" for number in range(20)}])
    assert "key19" in text.splitlines()[0]


@pytest.mark.parametrize(("keys", "lines"), [(["job"], 1), (["optim.lr", "best\nloss"], 2)])
def test_the_lines_of_the_keys_are_counted(keys: list[str], lines: int) -> None:
    assert head(table([dict.fromkeys(keys, "-")])) == lines
