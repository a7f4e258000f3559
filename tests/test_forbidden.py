"""Calls that the product never makes: code from text, unchecked pickles and YAML, a shell, archives unpacked."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.support.places import ROOT

SOURCES = sorted((ROOT / "src").rglob("*.py"))
BARE = {"eval", "exec", "compile", "__import__"}
DOTTED = {
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "yaml.load",
    "yaml.unsafe_load",
    "yaml.full_load",
    "torch.hub.load",
    "marshal.loads",
    "shutil.unpack_archive",
}
ATTRIBUTES = {"extract", "extractall"}
MODULES = {"tarfile", "marshal", "dill", "cloudpickle", "joblib"}


def faults(source: str) -> Iterator[str]:
    """Each forbidden thing in a source text, with its line."""
    tree = ast.parse(source)
    known = dict(_imported(tree))
    for module in known.values():
        if module.split(".")[0] in MODULES:
            yield f"import {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = _name(node.func, known)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if name in BARE | DOTTED or (isinstance(node.func, ast.Attribute) and node.func.attr in ATTRIBUTES):
                yield f"{node.lineno}: {name}"
            if name == "torch.load" and options.get("weights_only") != "True":
                yield f"{node.lineno}: torch.load without weights_only=True"
            if name in {"numpy.load", "np.load"} and options.get("allow_pickle") != "False":
                yield f"{node.lineno}: numpy.load without allow_pickle=False"
            for option, value in (("shell", "True"), ("verify", "False"), ("allow_pickle", "True")):
                if options.get(option) == value:
                    yield f"{node.lineno}: {option}={value}"


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What each imported name of a module stands for, in full."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _name(function: ast.expr, known: dict[str, str]) -> str:
    """The called name in full, whatever it was imported as."""
    first, dot, rest = ast.unparse(function).partition(".")
    return known.get(first, first) + dot + rest


def test_there_is_something_to_look_at() -> None:
    assert len(SOURCES) > 20


def test_no_forbidden_call_is_made() -> None:
    assert [f"{path}:{fault}" for path in SOURCES for fault in faults(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec('1')",
        "import pickle; pickle.load(file)",
        "from pickle import loads; loads(b'')",
        "import pickle as p; p.loads(b'')",
        "import yaml; yaml.load(text, Loader=yaml.Loader)",
        "import subprocess; subprocess.run('ls', shell=True)",
        "import requests; requests.get(url, verify=False)",
        "import os; os.system('ls')",
        "from os import system; system('ls')",
        "import tarfile",
        "from tarfile import open",
        "archive.extract('x')",
        "archive.extractall()",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import numpy as np; np.load(path)",
    ],
)
def test_a_forbidden_call_would_be_found(source: str) -> None:
    assert list(faults(source))


@pytest.mark.parametrize(
    "source", ["model.eval()", "import torch; torch.load(path, weights_only=True)", "import re; re.compile('x')"]
)
def test_what_only_looks_like_one_is_allowed(source: str) -> None:
    assert list(faults(source)) == []
