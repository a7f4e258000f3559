"""Source that is rewritten does what it did, and a script that could not run is none."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import experiments
from experiments.export_script.rewriting import Rewriter
from experiments.export_script.soundness import sound
from experiments.export_script.values import literal

BRANCHES = [
    "if kind == 'a':\n        x = 1\n    elif n:\n        x = 2\n    else:\n        x = 3",
    "if n:\n        x = 1\n    elif kind == 'a':\n        x = 2\n    else:\n        x = 3",
    "if n: x = 1\n    elif kind == 'a': x = 2\n    else: x = 3",
    "if kind == 'a': x = 1",
    "if kind == 'a':\n        x = 1\n    elif kind == 'b':\n        x = 2\n    elif n:\n        x = 3",
    "if n == 1:\n        x = 1\n    elif kind == 'a':\n        x = 2\n    elif n == 2:\n        x = 3",
    "if (n and\n        n > 1):\n        x = 5\n        if kind == 'a':\n            x = 1\n    elif kind == 'b':\n"
    "        x = 2",
]


@pytest.mark.parametrize("branches", BRANCHES, ids=range(len(BRANCHES)))
@pytest.mark.parametrize("kind", ["a", "b", "c"])
def test_branches_that_are_decided_leave_what_the_others_do(kind: str, branches: str) -> None:
    source = f"def choose(kind, n):\n    x = 0\n    {branches}\n    return x\n"
    written = Rewriter(source, known={"kind": kind}, spec=None).definition()
    before, now = dict[str, Any](), dict[str, Any]()
    exec(source, before)
    exec(written, now)
    assert [now["choose"](n) for n in range(3)] == [before["choose"](kind, n) for n in range(3)], written
    assert "kind" not in written


def test_a_negative_number_is_written_as_a_whole() -> None:
    assert "return (-1) ** n" in Rewriter("def f(n, k):\n    return k ** n\n", known={"k": -1}, spec=None).definition()


class Act(Enum):
    GELU = "gelu"


@pytest.mark.parametrize(
    ("value", "written"),
    [(Act.GELU, "Act.GELU"), (Path("a/b"), 'Path("a/b")'), (float("-inf"), 'float("-inf")'), ((1, "a"), "(1, 'a')")],
)
def test_a_value_is_written_as_python_has_it(value: Any, written: str) -> None:
    assert literal(value) == written


@pytest.mark.parametrize("value", [object(), np.float64(0.5), [float("inf")], {"act": Act.GELU}])
def test_a_value_that_python_has_no_words_for_is_refused(value: Any) -> None:
    with pytest.raises(experiments.ConfigError, match="cannot be written into a script as a value"):
        literal(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = (", "the script would be invalid Python, at "),
        ("def f():\n    return missing\n", "the script would not define missing;"),
        ("class A:\n    size = width\n", "the script would not define width;"),
    ],
)
def test_a_script_that_could_not_run_is_refused(text: str, told: str) -> None:
    with pytest.raises(experiments.ConfigError, match=told):
        sound(text)


def test_a_script_that_has_its_names_is_taken() -> None:
    text = "import os\nfrom math import pi as p\n\nclass A(dict):\n    b = 1\n    c = b\n    def d(self):\n"
    text += "        global e\n        e = [q for q in range(3)]\n        super().clear()\n"
    text += "        return e, lambda r: r + p\n"
    sound(text + "for i in A():\n    print(os, i, __name__)\n")
