"""The words in the user's language: each text that the code asks for has its translation, and no other has one."""

from __future__ import annotations

import ast
import pickle
import re
import string
import typing
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
import yaml

from experiments.compare import curves, page
from experiments.config.language import ENGLISH, Language, Phrase
from experiments.exercise import checking, ladder
from experiments.parity import differences
from experiments.parity.verdict import Word
from tests.support.places import ROOT

SOURCE = ROOT / "src" / "experiments"
STAGES = [str(path.relative_to(ROOT)) for path in (ROOT / "conf" / "stage").glob("*.yaml")]
UZBEK = Language("uz")
CATALOGUE: dict[str, str] = yaml.safe_load((SOURCE / "config" / "uz.yaml").read_text(encoding="utf-8"))

# Texts that the code asks for by a variable.
BY_NAME = {
    *page.STAGE_COLUMNS,
    *curves.AXES.values(),
    *typing.get_args(Word),
    *(f"{{count}} {unit}{plural}" for unit in ("step", "epoch") for plural in ("", "s")),
    *("step {number}", "epoch {number}"),
    "only the first has {a}; only the second has {b}",
    *differences.WORDS.values(),
    "(MLflow's charts show {some} of the {count} runs at first; curves: all)",
    "{missing} of {count} runs are not in MLflow; upload them: {command}",
    "{a} = {b}",
    "{a} = {b} transposed",
    "the first configuration has no more batches",
    "the second configuration has no more batches",
    "the training has no more steps",
    "the two optimisers remember different things, so each keeps its own memory",
    "{name} differs as well, from step {number} on",
    *ladder.HINTS.values(),
    *(*checking.VARIANTS, "other rows"),
    "step {step}: before it, {name} differs: {apart}",
    "step {step}: the gradient of {name} differs: {apart}",
    "epoch {epoch}: {name} is {found}, {expected} expected",
}


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that an argument may be: one, or one of two."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*literals(body), *literals(orelse))


def asked(path: Path) -> Iterator[str]:
    """Each text that a file asks for in the user's language."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        expressions = re.findall(r"\bsay\((.*?)\)\s*[}%;]", source)
        for expression in expressions:
            yield from re.findall(r'"([^"]+)"(?= if| else|,|$)', re.sub(r", \w+=.*", "", expression))
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in ("say", "Phrase"):
                yield from literals(node.args[0])


def wanted() -> set[str]:
    paths = [path for path in SOURCE.rglob("*") if path.suffix in (".py", ".html") and "/conf/" not in str(path)]
    return {text for path in paths for text in asked(path)} | BY_NAME


def fields(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_each_text_that_the_code_asks_for_is_in_the_catalogue() -> None:
    assert sorted(wanted() - set(CATALOGUE)) == []


def test_no_translation_is_unused() -> None:
    assert sorted(set(CATALOGUE) - wanted()) == []


@pytest.mark.parametrize("text", CATALOGUE)
def test_a_translation_has_the_texts_placeholders(text: str) -> None:
    assert fields(CATALOGUE[text]) == fields(text)


@pytest.mark.parametrize("path", ["README.uz.md", "docs/uz/tour.md", "src/experiments/config/uz.yaml", *sorted(STAGES)])
def test_the_apostrophe_has_one_form(path: str) -> None:
    assert re.findall("[\u2018\u2019\u02bb\u02bc]", (ROOT / path).read_text(encoding="utf-8")) == []


def test_values_fill_their_placeholders_in_either_language() -> None:
    assert ENGLISH("{count} {key}s", count=3, key="seed") == "3 seeds"
    assert UZBEK("{count} {key}s", count=3, key="seed") == "3 ta seed"


def test_a_name_of_the_users_stays_as_it_is() -> None:
    assert UZBEK("{my metric}") == "{my metric}" == ENGLISH("{my metric}")


def test_a_value_is_never_a_template() -> None:
    assert UZBEK("{label} is {status}", label="{x} {0}", status="FAILED") == "{x} {0}: FAILED"


def test_a_phrase_is_english_text_that_another_language_says_later() -> None:
    phrase = Phrase("{a} and {b} at {index}", a=1, b="{x}", index=[0])
    assert (phrase, ENGLISH(phrase)) == ("1 and {x} at [0]", "1 and {x} at [0]")
    assert UZBEK(pickle.loads(pickle.dumps(phrase))) == "1 va {x}, o'rni [0]"


def test_the_language_is_that_of_the_first_run_with_a_configuration(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "b" / "config.yaml").write_text("language: uz\n", encoding="utf-8")
    (tmp_path / "c" / "config.yaml").write_text("language: en\n", encoding="utf-8")
    assert Language.of(tmp_path / "a", tmp_path / "b", tmp_path / "c") == UZBEK
    assert Language.of(tmp_path / "a") == ENGLISH


def test_a_runs_language_is_read_beside_a_masked_secret(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model:\n  token: ***\nlanguage: uz\n", encoding="utf-8")
    assert Language.of(tmp_path) == UZBEK


def test_the_catalogue_is_data_of_the_package() -> None:
    assert (resources.files("experiments.config") / "uz.yaml").is_file()
    assert '"experiments.config" = ["uz.yaml"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
