"""The documentation site: each key, argument and flag of its reference has a text, and links lead to its pages."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
from docs.site import pages, reference

from experiments.config import command_line, discovery
from experiments.config.registry import Registry, register
from tests.support.places import ROOT

discovery.load()
OPTIONS = [path for paths in reference.option_files().values() for path in paths]
COMPONENTS = [(registry, name) for registry in register for name in registry.names]


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.relative_to(reference.CONF).as_posix())
def test_each_option_and_each_of_its_keys_has_a_comment(path: Path) -> None:
    assert reference.heading_of(path)
    assert [key.name for key in reference.keys_of(path) if not key.text] == []


@pytest.mark.parametrize(("registry", "name"), COMPONENTS, ids=lambda each: getattr(each, "group", each))
def test_each_component_and_each_of_its_arguments_has_a_text(registry: Registry, name: str) -> None:
    assert registry.get(name).factory.__doc__
    assert [each.name for each in reference.arguments_of(registry, name) if not each.text] == []


def test_each_key_of_a_search_has_a_comment() -> None:
    keys = reference.search_keys()
    assert len(keys) > 8
    assert [key.name for key in keys if not key.text] == []


@pytest.mark.parametrize("command", ["", *reference.COMMANDS])
def test_each_flag_has_a_help_text(command: str) -> None:
    parser = reference.parser_of(command) if command else command_line.parsed([])[1]
    flags = [action for action in parser._actions if not action.help or action.help == argparse.SUPPRESS]
    assert [flag.dest for flag in flags] == []
    assert parser.description


def test_no_command_is_left_out() -> None:
    made = [path for path in (ROOT / "src").rglob("*.py") if re.search(r"\bcli\.parser\(", path.read_text("utf-8"))]
    assert len(made) == len(reference.COMMANDS)


@pytest.mark.parametrize(
    ("source", "page", "text", "linked"),
    [
        ("docs/scale.md", "scale.md", "[a](decisions/runs.md#b)", "[a](decisions/runs.md#b)"),
        ("docs/decisions/runs.md", "decisions/runs.md", "[a](../threat-model.md)", "[a](../threat-model.md)"),
        ("README.md", "start.md", "[a](docs/scale.md#search)", "[a](scale.md#search)"),
        ("docs/install.md", "install.md", "[a](../README.md)", "[a](start.md)"),
        ("docs/tasks.md", "tasks.md", "[a](tour.md#b)", "[a](tour.md#b)"),
        ("README.uz.md", "uz/start.md", "[a](README.md)", "[a](../start.md)"),
        ("docs/tour.md", "tour.md", "[a](../examples)", "a"),
        ("docs/uz/tour.md", "uz/tour.md", "![a](../speed.png)", "![a](../speed.png)"),
        ("docs/tour.md", "tour.md", "[a](https://pytorch.org)", "[a](https://pytorch.org)"),
        ("docs/tour.md", "tour.md", "```\nx[a](examples)\n```", "```\nx[a](examples)\n```"),
    ],
)
def test_a_link_leads_to_the_page_in_the_site(source: str, page: str, text: str, linked: str, tmp_path: Path) -> None:
    assert pages.relinked(text, ROOT / source, page, tmp_path) == linked
    assert "speed.png" not in text or (tmp_path / "speed.png").is_file()


def test_each_page_of_the_repository_is_in_the_site() -> None:
    assert set((ROOT / "docs").rglob("*.md")) <= pages.sources().keys()
    assert len(set(pages.sources().values())) == len(pages.sources())
