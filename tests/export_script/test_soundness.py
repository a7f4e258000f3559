"""A script whose calls do not fit its definitions is refused, and no other."""

from __future__ import annotations

import pytest

import experiments
from experiments.export_script.soundness import sound

BASE = "class Base:\n    def __init__(self, data, width=3):\n        self.data = data\n"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def f(a, b):\n    pass\nf(1)", "f\\(1\\).* missing a required argument: 'b'"),
        ("def f(a, *, b=1):\n    pass\nf(1, c=2)", "unexpected keyword argument 'c'"),
        (f"{BASE}class Child(Base):\n    pass\nChild()", "Child\\(\\).* missing a required argument: 'data'"),
        (f"{BASE}class Child(Base):\n    def __init__(self):\n        super().__init__(width=1)", "argument: 'data'"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(code: str, told: str) -> None:
    with pytest.raises(experiments.ConfigError, match=told):
        sound(code)


@pytest.mark.parametrize(
    "code",
    [
        "def f(a, b):\n    pass\nf(*[1, 2])\nf(**{'a': 1, 'b': 2})",
        f"{BASE}class Child(Base):\n    def __init__(self):\n        super().__init__(1)\nChild()",
        f"{BASE}class Child(dict, Base):\n    pass\nChild()",
        "import functools\n@functools.partial(lambda f: f)\ndef f(a):\n    pass\nf()",
        "def f(a):\n    pass\ndef g(f):\n    return f()",
        "class A:\n    def __new__(cls, *args):\n        return object.__new__(cls)\nA(1, 2)",
    ],
)
def test_a_call_that_may_fit_is_kept(code: str) -> None:
    assert sound(code) == code
