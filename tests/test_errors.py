"""What an error is reported as in one line."""

from __future__ import annotations

import pytest

from experiments.errors import first_line


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("out of reach", "out of reach"),
        ("\n  out of reach \nand a lot of SQL", "out of reach"),
        ("", "OSError"),
        ("\n", "OSError"),
    ],
    ids=["one line", "several lines", "no message", "blank lines"],
)
def test_an_error_is_reported_by_its_first_line_or_its_type(message: str, line: str) -> None:
    assert first_line(OSError(message)) == line
