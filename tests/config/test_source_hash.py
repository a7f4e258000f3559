"""What counts as a component's code: all that is one's own and that it needs, and nothing else."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from experiments.components.models.convolutional import Cnn
from experiments.config import source_hash
from experiments.config.registry import register

LIBRARY = """
import functools
import torch
from torch import nn

WIDTH = 3
ACTIVATIONS = {"tanh": torch.tanh}
calls = []

class OwnError(ValueError):
    '''Told of a fault.'''

def bent(x):
    return torch.tanh(x) * WIDTH

half = functools.partial(torch.mul, other=0.5)

class Base(nn.Module):
    '''What it is.'''

    def forward(self, x):
        '''What it does.'''
        calls.append(x)  # each of them
        return half(bent(x))

class Shaped:
    size = 4

shaped = Shaped()

def unrelated():
    return 1
"""
COMPONENT = """
import library
from library import Base, shaped

class Net(Base):
    def __init__(self):
        if not shaped.size:
            raise library.OwnError

def net(data):
    return Net(), library.ACTIVATIONS

def made(width):
    def inner(data):
        return width
    return inner

one, two = made(1), made(2)
"""


class Written:
    """Modules that are written and imported anew, as another process would have them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def component(self, replaced: Mapping[str, str] = MappingProxyType({})) -> Any:
        library, component = LIBRARY, COMPONENT
        for old, new in replaced.items():
            old = OLD[old]
            assert old in library + component
            library, component = library.replace(old, new), component.replace(old, new)
        for name, text in (("library", library), ("component", component)):
            (self.folder / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("component")


OLD = {
    "function": "torch.tanh(x) *",
    "base": "half(bent(x))",
    "constant": "WIDTH = 3",
    "table": "{'tanh': torch.tanh}".replace("'", '"'),
    "partial": "other=0.5",
    "instance": "size = 4",
    "own": "if not shaped.size",
    "unrelated": "return 1\n",
    "error": "Told of a fault.",
    "list": "calls = []",
    "import": "import functools\n",
    "docstring of a class": "What it is.",
    "docstring": "What it does.",
    "comment": "# each of them",
    "line": "calls.append(x)",
}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Written(tmp_path)
    for name in ("library", "component"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("what", "new"),
    [
        ("function", "torch.sin(x) *"),
        ("base", "bent(x)"),
        ("constant", "WIDTH = 4"),
        ("table", "{'sin': 1}"),
        ("partial", "other=0.25"),
        ("instance", "size = 5"),
        ("own", "if shaped.size"),
    ],
)
def test_what_a_component_needs_is_its_code(what: str, new: str, written: Written) -> None:
    before = source_hash.digest(written.component().net)
    assert source_hash.digest(written.component({what: new}).net) != before


@pytest.mark.parametrize(
    ("what", "new"),
    [
        ("unrelated", "return 2\n"),
        ("error", "Told of another."),
        ("list", "calls = [1]"),
        ("import", "import functools\nimport os\n"),
        ("docstring of a class", "What it was."),
        ("docstring", "What it does, in other words."),
        ("comment", "\n\n        # a remark on a line of its own"),
        ("line", "calls.append(\n            x,\n        )"),
    ],
)
def test_what_changes_nothing_for_it_is_not(what: str, new: str, written: Written) -> None:
    before = source_hash.digest(written.component().net)
    assert source_hash.digest(written.component({what: new}).net) == before


def test_what_a_factory_was_made_with_is_its_code(written: Written) -> None:
    component = written.component()
    assert source_hash.digest(component.one) != source_hash.digest(component.two)


def test_of_the_products_components_it_is_the_classes_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = register.model.get("cnn").factory
    before, real = source_hash.digest(factory), source_hash.text
    monkeypatch.setattr(source_hash, "text", lambda part: real(part) + ("\nother" if part is Cnn else ""))
    assert source_hash.digest(factory) != before


def test_what_was_typed_into_a_shell_is_told_apart_by_its_name() -> None:
    typed: dict[str, Any] = {"__name__": "__main__"}
    exec(textwrap.dedent("""
        class Net:
            def forward(self): return 1
        def net(data): return Net()
        def other(data): return Net()
    """), typed)  # fmt: skip
    assert source_hash.digest(typed["net"]) != source_hash.digest(typed["other"])


def test_a_lambda_within_a_longer_statement_is_known_by_its_words() -> None:
    assert source_hash.meaning("made(  # so\n    lambda x: x + 1,") == source_hash.meaning(
        "made(\n\n    lambda x: x + 1,"
    )
    assert source_hash.meaning("made(\n    lambda x: x + 1,") != source_hash.meaning("made(\n    lambda x: x + 2,")
