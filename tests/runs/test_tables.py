"""A table is no wider than a terminal where its keys can be broken; in Markdown each row is one line."""

from __future__ import annotations

from experiments.runs.tables import WIDTH, table

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
