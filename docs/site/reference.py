"""Generates the reference pages from the package: configuration, components and commands.

Each key, argument and flag is shown with its default and its text; `tests/test_site.py` checks that each has one.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from experiments.config.described import comments
from experiments.config.hydra_options import SearchConfig
from experiments.config.registry import Registry

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
LOGGING = ("hydra/job_logging", "hydra/hydra_logging")  # in the form of Python's logging.config
FREE = ("tutorial", "hydra.sweeper.params")  # their own text is that of all keys below
IN_FOLDERS = ("compare", "doctor", "exercise", "export_script", "parity")
IN_FILES = ("evaluate", "lr_find", "predict", "register", "replay", "resume", "sync", "ui")
COMMANDS = tuple(sorted(IN_FOLDERS + IN_FILES))
BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "length >=", "max_length": "length <="}


@dataclass(frozen=True)
class Entry:
    """A row of a table: a key or an argument, its default as YAML or Python, its text and its type."""

    name: str
    default: str
    text: str
    type: str = ""


def option_files() -> dict[str, list[Path]]:
    """Return the files of the configuration by group; the root's group is empty."""
    found = dict[str, list[Path]]()
    for path in sorted(CONF.rglob("*.yaml")):
        group = path.parent.relative_to(CONF).as_posix()
        if group not in LOGGING:
            found.setdefault("" if group == "." else group, []).append(path)
    return found


def heading_of(path: Path) -> str:
    """Return the comment at the top of an option."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "@package" not in line]
    return " ".join(line.strip("# ") for line in itertools.takewhile(lambda line: line.startswith("# "), lines))


def keys_of(path: Path) -> list[Entry]:
    """Return the keys of an option; one that sets keys of other groups takes their texts."""
    known = _comments(path)
    if "@package _global_" in path.read_text(encoding="utf-8"):
        known = {**_shared(), **known}
    return [Entry(key, default, _text(key, known)) for key, default in _leaves(path)]


def choices_of(path: Path) -> list[str]:
    """Return the options of other groups that a file chooses, as on the command line."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    pairs = [pair for entry in settings.get("defaults", ()) if isinstance(entry, dict) for pair in entry.items()]
    named = [(group.removeprefix("override ").lstrip("/"), option) for group, option in pairs if option]
    return [f"{group}={option}" for group, option in named if group not in LOGGING]


def _comments(path: Path) -> dict[str, str]:
    return comments(path.relative_to(CONF).as_posix())


def _text(key: str, known: Mapping[str, str]) -> str:
    above = [parent for parent in FREE if key.startswith(f"{parent}.")]
    return next((known[name] for name in (key, *above) if name in known), "")


def _shared() -> dict[str, str]:
    """Return the text of each key below the root."""
    found = _comments(CONF / "config.yaml")
    for group, paths in option_files().items():
        for path in paths if group and "/" not in group else ():
            found |= {f"{group}.{key}": text for key, text in _comments(path).items() if key and text}
    return found


def _leaves(path: Path) -> Iterator[tuple[str, str]]:
    def walk(settings: Mapping[str, Any], above: str) -> Iterator[tuple[str, str]]:
        for key, value in settings.items():
            if isinstance(value, dict) and value and key != "tutorial":
                yield from walk(value, f"{above}{key}.")
            elif key not in ("_target_", "tutorial") or not value:
                yield f"{above}{key}", _as_yaml(value)

    settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    hidden = {"defaults", "name"} if path.parent != CONF and "hydra" not in path.parts else {"defaults"}
    hidden |= {path.stem} if settings.get(path.stem) == {} else set()  # a component without arguments
    return walk({key: value for key, value in settings.items() if key not in hidden}, "")


def _as_yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
    return text if len(text) < 80 else "..."


def arguments_of(registry: Registry, name: str) -> list[Entry]:
    """Return the arguments of a component, with the texts of its preset, else of its docstrings."""
    factory = registry.get(name).factory
    classes = factory.__mro__[::-1] if inspect.isclass(factory) else (factory,)
    known = {key: text for each in classes for key, text in _documented(each.__doc__ or "").items()}
    preset = CONF / registry.group / f"{name}.yaml"
    if preset.is_file():
        known |= {key.removeprefix(f"{name}."): text for key, text in _comments(preset).items()}
    hints = typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory, include_extras=True)
    return [
        Entry(each.name, _default(each), known.get(each.name, ""), type_text(hints.get(each.name, Any)))
        for each in registry.arguments(name).values()
    ]


def _default(parameter: inspect.Parameter) -> str:
    return "required" if parameter.default is parameter.empty else _as_yaml(parameter.default)


def _documented(docstring: str) -> dict[str, str]:
    """Return the texts of a docstring's arguments."""
    section = re.search(r"^Args:\n((?: .*\n?|\n)+)", inspect.cleandoc(docstring), re.MULTILINE)
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section[1], re.MULTILINE) if section else []
    return {name: " ".join(text.split()) for name, text in found}


def type_text(hint: Any) -> str:
    """Return a type with its bounds in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        limits = [
            f"{sign} {getattr(bound, name)}"
            for bound in inner[1:]
            for name, sign in BOUNDS.items()
            if _set(bound, name)
        ]
        return ", ".join([type_text(inner[0]), *limits])
    if origin is typing.Literal:
        return " or ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(type_text, inner))
    if origin:
        return f"{origin.__name__} of {' and '.join(dict.fromkeys(map(type_text, inner)))}"
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint)).replace("Any", "any")


def _set(limits: object, name: str) -> bool:
    """Return whether an annotation has such a bound; a length of at least 0 is not one."""
    return getattr(limits, name, None) is not None and (name, getattr(limits, name)) != ("min_length", 0)


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser that a command makes."""

    class Made(Exception):  # noqa: N818  # not an error: it carries the parser
        pass

    def stop(self: argparse.ArgumentParser, *_: object) -> None:
        raise Made(self)

    file = {"register": "register_model"}.get(command, command) + (".__main__" if command in IN_FOLDERS else "")
    try:
        with (
            mock.patch.object(argparse.ArgumentParser, "parse_args", stop),
            mock.patch.object(argparse.ArgumentParser, "parse_intermixed_args", stop),
        ):
            import_module(f"experiments.{file}").main([])
    except Made as made:
        return typing.cast("argparse.ArgumentParser", made.args[0])
    raise RuntimeError(f"{command} makes no parser")


def search_keys() -> list[Entry]:
    """Return the keys of `hydra/sweeper=optuna`, which is a class."""
    line = re.compile(r"^    ([a-z]\w*): .*?(?:  # (.+))?$", re.MULTILINE)
    found = [each for each in line.findall(inspect.getsource(SearchConfig)) if each[0] not in ("defaults", "sampler")]
    return [Entry(name, _as_yaml(getattr(SearchConfig(), name)), text) for name, text in found]
