"""What a user reads is in the field's terms: no replaced word in a string of the source, a template or conf/."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.places import ROOT

# Each with the term that takes its place.
REPLACED = {
    r"begun|began": "started",
    r"(go|goes|gone|going) on": "resume, continue",
    r"told|tells?": "report, log, declare",
    r"what is there": "existing",
    r"what (it|they) comes? to": "the result",
    r"see that|seen to": "check, ensure",
    r"brought|brings?": "upload",
    r"let go of": "free",
    r"(?<!there )(is|are) no (?!longer\b)\w+": "is not a",
    r"none of": "not a, no",
    r"lies|stands?": "is, is stored",
    r"pictures?": "image",
    r"facts?": "metadata",
    r"crowd\w*": "CPU oversubscription",
    r"figures?": "metric (a number), plot (a drawing)",
    r"anew": "again",
    r"and the like": "similar",
    r"(can|could)(not| not)? be had": "get",
}
WORDS = re.compile("|".join(rf"\b(?:{words})\b" for words in REPLACED), re.IGNORECASE)

# What stays, with the reason.
EXCEPTIONS = {
    "tutorial_figures": "a callback of the configuration",
    "figures: ": "a key of the configuration",
    "cannot tell": "a verdict of compare, beside improved and worse",
}

PACKAGE = ROOT / "src" / "experiments"


def faults(text: str) -> list[str]:
    """Each replaced word in a text that a user may read."""
    for exception in EXCEPTIONS:
        text = text.replace(exception, "")
    return [found[0] for found in WORDS.finditer(text)]


def strings(source: str) -> Iterator[str]:
    """Each sentence among the string constants; no docstrings, no keys and names."""
    nodes = list(ast.walk(ast.parse(source)))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from [node.value] if " " in node.value else []


def sentences(path: Path) -> Iterator[str]:
    """What a file says to users: a module's strings, a template's text, a configuration's comments and texts."""
    text = path.read_text(encoding="utf-8")
    match path.suffix:
        case ".py":
            yield from strings(text)
        case ".html":
            yield re.sub(r"<style.*?</style>|<[^>]*>|{[{%].*?[%}]}", " ", text, flags=re.DOTALL)
        case ".yaml":
            yield from (line for line in text.splitlines() if " " in line.strip())


def files() -> Iterator[Path]:
    """The modules, the templates and the configuration."""
    for folder in (PACKAGE, ROOT / "src" / "hydra_plugins", ROOT / "conf"):
        yield from (path for path in folder.rglob("*") if path.suffix in (".py", ".html", ".yaml"))


def test_no_sentence_has_a_replaced_word() -> None:
    seen = sorted(files())
    found = [
        f"{path.relative_to(ROOT)}: {word!r} in {text!r}"
        for path in seen
        for text in sentences(path)
        for word in faults(text)
    ]
    assert {path.suffix for path in seen} >= {".py", ".yaml"}
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("the run goes on from its checkpoint", "goes on"),
        ("model m is no nn.Module", "is no nn"),
        ("Brings what is missing", "Brings"),
        ("each figure of the run", "figure"),
        ("mnist cannot be had: no network", "cannot be had"),
    ],
)
def test_a_replaced_word_is_found(text: str, word: str) -> None:
    assert faults(text) == [word]


def test_a_sentence_is_found_in_parts_of_an_f_string_but_not_in_a_docstring() -> None:
    assert list(strings('"""Is told."""\nprint(f"{run} was told", "figures")')) == [" was told"]


@pytest.mark.parametrize("exception", EXCEPTIONS)
def test_each_exception_is_needed(exception: str) -> None:
    assert any(exception in text for path in files() for text in sentences(path))
