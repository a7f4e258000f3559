"""Writes the generated reference as pages: configuration groups, kinds of components, commands."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from docs.site import reference
from docs.site.reference import Entry

from experiments.config import discovery
from experiments.config.registry import Registry, register

FIXED = {"COLUMNS": "90", "EXPERIMENTS_COMPONENTS": ""}  # the width of help texts, and no own components
TITLES = {"dataset": "Datasets", "model": "Models", "loss": "Losses", "step": "Steps", "optim": "Optimisers"}
TITLES |= {"loader": "Loaders", "scheduler": "Schedulers", "transforms": "Transforms", "metrics": "Metrics"}
TITLES |= {"callbacks": "Callbacks"}


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and text of each page."""
    discovery.load()
    for group, paths in reference.option_files().items():
        yield f"reference/configuration/{group.replace('/', '-') or 'root'}.md", _group(group, paths)
    yield "reference/configuration/hydra-sweeper.md", _search()
    for registry in register:
        yield f"reference/components/{registry.group}.md", _components(registry)
    yield "reference/commands.md", _commands()


def _group(group: str, paths: list[Path]) -> str:
    if not group:
        return f"# The root\n\n{_option(paths[0])}"
    options = [f"## {path.stem}\n\n{_option(path)}" for path in paths]
    return f"# {group}\n\nChoose with `{group}=OPTION`.\n\n" + "\n".join(options)


def _option(path: Path) -> str:
    keys, choices = reference.keys_of(path), ", ".join(f"`{each}`" for each in reference.choices_of(path))
    parts = [_prose(reference.heading_of(path)), f"Chooses {choices}." if choices else "", table(keys) if keys else ""]
    return "\n\n".join(part for part in parts if part) + "\n"


def _search() -> str:
    intro = "The keys of `hydra.sweeper` with `hydra/sweeper=optuna` ([how](../../scale.md#search))."
    return f"# hydra/sweeper\n\n## optuna\n\n{intro}\n\n{table(reference.search_keys())}"


def _components(registry: Registry) -> str:
    passed = f" The run passes `{', '.join(registry.takes)}` first." if registry.takes else ""
    intro = (
        f"Register with `@experiments.register.{_attribute(registry)}`; choose with `{registry.group}=NAME`.{passed}"
    )
    parts = [f"# {TITLES[registry.group]}\n", f"{intro}\n", *(_component(registry, name) for name in registry.names)]
    return "\n".join(parts)


def _attribute(registry: Registry) -> str:
    return next(name for name, each in vars(register).items() if each is registry)


def _component(registry: Registry, name: str) -> str:
    component = registry.get(name)
    text = re.split(r"\n(?:Args|Raises|Returns):", inspect.cleandoc(component.factory.__doc__ or ""))[0]
    entries = reference.arguments_of(registry, name)
    declared = ", ".join(f"`{key}={value!r}`" for key, value in component.metadata.items())
    parts = [f"## {name}", _prose(text), f"Declares {declared}." if declared else "", table(entries) if entries else ""]
    return "\n\n".join(part for part in parts if part) + "\n"


def _commands() -> str:
    command = [sys.executable, "-m", "experiments", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **FIXED})  # noqa: S603  # fixed words
    helps = {"experiments": done.stdout}
    with mock.patch.dict(os.environ, FIXED):
        helps |= {f"experiments.{name}": reference.parser_of(name).format_help() for name in reference.COMMANDS}
    sections = [f"## {name}\n\n```\n$ python -m {name} --help\n{text.rstrip()}\n```\n" for name, text in helps.items()]
    return "# Commands\n\n" + "\n".join(sections)


def table(entries: list[Entry]) -> str:
    """Return a table of keys or arguments."""
    typed = any(entry.type for entry in entries)
    rows = [("argument" if typed else "key", *(["type"] if typed else []), "default", "what it is for")]
    rows += [("---",) * len(rows[0])]
    rows += [
        (f"`{each.name}`", *([_cell(each.type)] if typed else []), _code(each.default), _cell(each.text))
        for each in entries
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`"


def _cell(text: str) -> str:
    return _prose(text.replace("|", "\\|"))


def _prose(text: str) -> str:
    """Return a text that is shown as it is: what is Markdown outside of code is escaped; a page's path is a link."""
    parts = re.split(r"(`[^`]*`)", text)
    shown = "".join(part if part.startswith("`") else re.sub(r"([*<\[\]_])", r"\\\1", part) for part in parts)
    return re.sub(r"\bdocs/([\w-]+)\.md\b", r"[\1](../../\1.md)", shown)
