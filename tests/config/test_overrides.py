"""Overrides as they are typed: text in any language is read, and Hydra's own grammar is left alone."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.config import latest
from experiments.config.overrides import as_text, readable
from experiments.errors import ConfigError


def value(override: str) -> Any:
    """The value that Hydra reads."""
    return OverridesParser.create().parse_override(readable([override])[0]).value()


@pytest.mark.parametrize(
    "text",
    [
        "Тажриба",
        "lr=0.1",
        "o'quv",
        "O\u2018zbek va o'zbek",
        "a#b",
        "a;b&c!d<e",
        "50%",
        "=",
        "data/a=b.npz",
        "a~b",
        "日本",
    ],
)
def test_a_text_needs_no_quotes(text: str) -> None:
    assert value(f"name={text}") == text


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("epochs=3", 3),
        ("dataset.shape=[1,4,4]", [1, 4, 4]),
        ("name='a, b'", "a, b"),
        ("name=null", None),
        ("callbacks=[Бир,two]", ["Бир", "two"]),
        (r"name=C:\x\y", r"C:\x\y"),
        ("name=${seed}", "${seed}"),
    ],
)
def test_what_hydra_reads_keeps_its_meaning(typed: str, read: object) -> None:
    assert value(typed) == read


def test_a_sweep_of_texts_stays_a_sweep() -> None:
    assert readable(["name=Али,Вали"]) == ["name='Али','Вали'"]


def test_an_option_of_a_group_is_a_name_also_where_it_is_a_number() -> None:
    assert readable(["stage=5", "epochs=5"]) == ["stage='5'", "epochs=5"]


@pytest.mark.parametrize("key", ["dataset.path", "dataset.source", "output_root", "hydra.run.dir", "init_from"])
def test_a_tilde_is_the_home_folder_in_a_path(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/o'quv 1")
    assert value(f"{key}=~/my.npz") == "/home/o'quv 1/my.npz"


def test_a_tilde_is_the_home_folder_in_each_path_of_a_list_and_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert readable(["dataset.path=~/a.npz,~/b.npz"]) == ["dataset.path=/home/me/a.npz,/home/me/b.npz"]
    assert value("hydra.searchpath=[]") == [] and value("dataset.path=[~/a, ~]") == ["/home/me/a", "/home/me"]


def test_the_folder_of_an_unknown_user_stays_as_typed() -> None:
    assert value("dataset.path=~nobody-here/my.npz") == "~nobody-here/my.npz"
    assert value("dataset.path=~nobodyhere/my.npz") == "~nobodyhere/my.npz"
    assert latest.meant("~nobodyhere/run") == Path("~nobodyhere/run")


def test_a_tilde_in_another_setting_is_a_tilde() -> None:
    assert value("name=~/my") == "~/my"


@pytest.mark.parametrize("text", ["a,b", "[x", 'a"b', "o'q", "a{b}", "C:\\", "${x"])
def test_an_override_as_text_is_one_word_of_the_shell_with_that_value(text: str) -> None:
    (word,) = shlex.split(as_text(f"name={text}"))
    assert value(word) == text


@pytest.mark.parametrize("given", ["dataset=digits", None, [1], {"model": "cnn"}, ["model=cnn", None], b"model=cnn"])
def test_what_is_not_a_list_of_texts_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="^overrides: it is a list of texts such as ") as caught:
        readable(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["", "file://"])
def test_a_folder_of_options_that_does_not_exist_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hydra.searchpath: there is no folder"):
        readable([f"hydra.searchpath=[{address}{tmp_path}/none]"])
