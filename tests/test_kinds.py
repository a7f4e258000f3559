"""The tests' own marks: what a test does is read from its code, and what that does not show fails where it happens."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from typing import Any

import pytest
import torch

import experiments
from tests.support import commands, forked, guard, kinds


class Server:
    def __init__(self) -> None:
        self.process = subprocess.Popen(["true"])


def by_a_helper() -> None:
    by_itself()


def by_itself() -> None:
    subprocess.run(["true"], check=True)


def by_a_class() -> None:
    Server()


def by_a_module() -> None:
    commands.command("-m")


def within() -> None:
    def inner() -> None:
        by_itself()

    inner()


def forks() -> None:
    forked.forked(by_nothing)


def whole() -> None:
    experiments.run([])


def by_nothing() -> None:
    raise subprocess.TimeoutExpired("", 1)


@pytest.mark.parametrize(
    ("name", "marks"),
    [
        ("by_itself", {"process"}),
        ("by_a_helper", {"process"}),
        ("by_a_class", {"process"}),
        ("within", {"process"}),
        ("by_a_module", {"process", "fork"}),
        ("forks", {"process", "fork"}),
        ("whole", {"long"}),
        ("by_nothing", set()),
    ],
)
def test_what_a_test_does_is_read_from_its_code_and_its_helpers(name: str, marks: set[str]) -> None:
    function: Any = globals()[name]
    for given in (function, partial(function), (function, 1)):
        assert {mark for mark in kinds.WAYS if kinds.code_does([given], mark)} == marks


def test_a_process_that_a_test_starts_without_its_mark_is_a_failure() -> None:
    with guard.no_process(), pytest.raises(pytest.fail.Exception, match=r"os\.posix_spawn .*pytest\.mark\.process"):
        os.posix_spawn("/bin/true", ["true"], {})


def test_where_there_is_a_card_it_is_told_how_the_tests_that_fork_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert forked.no_fork() == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "CUDA_VISIBLE_DEVICES= " in forked.no_fork()


def test_what_is_not_run_is_told_with_its_number_and_reason() -> None:
    reasons = [("a.py", 1, "Skipped: no card"), ("a.py", 2, "Skipped: no data"), ["b.py", 3, "Skipped: no card"]]
    assert kinds.not_run(reasons) == ["not run here: 2 tests: no card", "not run here: 1 test: no data"]
