"""`--json`: one document on standard output, with what a command gave and how it ended, and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from experiments import answer, cli
from experiments.errors import ConfigError, Fault, TrainingError
from tests.support.forked import forked


@dataclass(frozen=True)
class Inner:
    value: float


@dataclass(frozen=True)
class Record:
    path: Path
    inner: tuple[Inner, ...]
    by_name: dict[str, Any]


RECORD = Record(Path("a/b"), (Inner(0.5), Inner(float("nan"))), {"x": float("-inf"), "y": [True, None, "z", 3]})
PLAIN = {"path": "a/b", "inner": [{"value": 0.5}, {"value": None}], "by_name": {"x": None, "y": [True, None, "z", 3]}}


def fails(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def gives(code: int) -> Callable[[], int]:
    def action() -> int:
        print("for people")
        os.system("echo from a process of its own")
        answer.give(RECORD)
        return code

    return action


def test_the_document_is_alone_on_standard_output() -> None:
    done = forked(lambda: cli.guarded(gives(3), json="tried"))
    assert done.code == 3
    expected = {"schema": answer.SCHEMA, "command": "tried", "exit_code": 3, "answer": PLAIN, "error": None}
    assert json.loads(done.out) == expected
    assert sorted(done.err.splitlines()) == ["for people", "from a process of its own"]


def test_without_the_flag_it_is_as_ever() -> None:
    done = forked(lambda: cli.guarded(gives(3)))
    assert (done.code, done.err) == (3, "") and "for people" in done.out and "{" not in done.out


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError(Fault("key", "wrong")), 2, "key: wrong"),
        (TrainingError("stopped"), 1, "stopped"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (SystemExit(143), 143, "exit 143"),
        (RuntimeError("ours"), 1, "ours"),
    ],
)
def test_an_error_is_told_in_the_document_and_to_people(error: BaseException, code: int, told: str) -> None:
    done = forked(lambda: cli.guarded(fails(error), json="tried"))
    found = json.loads(done.out)
    assert done.code == found["exit_code"] == code
    assert (found["answer"], found["error"]) == (None, told)
    assert isinstance(error, SystemExit) or told in done.err


def test_what_an_interrupted_command_came_to_is_made_at_its_end() -> None:
    steps: list[int] = []

    def action() -> None:
        answer.give(lambda: Record(Path(str(len(steps))), (), {}))
        steps.append(1)
        raise KeyboardInterrupt

    done = forked(lambda: cli.guarded(action, json="tried"))
    assert json.loads(done.out)["answer"]["path"] == "1"
