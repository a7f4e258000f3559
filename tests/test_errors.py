"""What an error is reported as in one line, and the commands that messages name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from experiments.errors import command, first_line, nearest


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


def test_a_command_is_pythons_where_the_environment_is_active() -> None:
    assert command("ui") == "python -m experiments.ui"


def test_a_command_names_the_interpreter_where_python_is_another(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert command("ui") == f"{sys.executable} -m experiments.ui"


def test_an_interpreter_below_the_working_folder_is_named_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(Path(sys.executable).parents[2])
    assert command("sync").split(" -m ") == [str(Path(sys.executable).relative_to(Path.cwd())), "experiments.sync"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("2", ["02_two"]),
        ("02", ["02_two"]),
        ("two", ["02_two"]),
        ("20", ["20_more"]),
        ("CN", ["cnn_a", "cnn_b"]),
        ("cnm_a", ["cnn_a"]),
        ("", []),
    ],
)
def test_the_names_that_a_text_means_are_by_number_beginning_part_or_nearness(name: str, meant: list[str]) -> None:
    assert nearest(name, ["02_two", "20_more", "cnn_a", "cnn_b"]) == meant
