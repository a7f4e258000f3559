"""Overrides as they are typed, made readable for Hydra: letters of any language are text, `~` is the home folder."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from experiments.config import latest, options
from experiments.config.hydra_internals import misread, texts
from experiments.errors import ConfigError, Fault
from experiments.files import expanded

GRAMMAR = re.compile(r"""[{}()"]|\$\{|(?:^|[\[,])\s*'""")  # of Hydra, not of plain text
PIECE = re.compile(r"[^\[\],]+")
NO_NAME = re.compile(r"(?i)\s*(?:null|true|false|[\d._]+)\s*")  # for Hydra; as an option, it is a name
PATH = re.compile(r"(?:.*[._])?(?:root|dir|path|folder|source|init_from)")  # the key of a path
HOME = re.compile(r"((?:^|[\[,])\s*['\"]?)(~\w*)(?=[/,\]'\"]|$)")  # in each value of a list or a sweep


def readable(overrides: object) -> list[str]:
    """Return overrides with quotes around the texts that Hydra cannot read without.

    Raises:
        ConfigError: they are not a list of texts, or a folder of options cannot be used.
    """
    texts: list[Any] = list(overrides) if isinstance(overrides, Sequence) and not isinstance(overrides, str) else [None]
    if not all(isinstance(text, str) for text in texts):
        problem = f"it is a list of texts such as ['model=cnn', 'optim.lr=0.1'], not {overrides!r:.200}"
        raise ConfigError(Fault("overrides", problem))
    return _pinned([_readable(f"++{text}" if text.startswith(("tags.", "tags=")) else text) for text in texts])


def quoted(text: str) -> str:
    """Quote any text as the value of an override."""
    # Hydra's quoting: a backslash before a quote, or before backslashes that stand before one, or at the end.
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


def as_text(override: str) -> str:
    """Return an override whose value is one text, as it is typed into a shell."""
    key, _, value = override.partition("=")
    override = f"{key}={quoted(value)}"
    return shlex.quote(override) if re.search(r'["$`!\\]', override) else f'"{override}"'


def _pinned(overrides: Sequence[str]) -> list[str]:
    """Put the folder in the place of `init_from=latest`, since the run or sweep itself is the latest when it starts."""
    by_key = dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    root = by_key.get("output_root", "outputs").strip("'\"")

    def folder(value: re.Match[str]) -> str:
        path = latest.meant(value[0], root)
        return quoted(os.path.relpath(path.resolve())) if path.is_dir() else value[0]

    word = re.compile(rf"(?<=[=,])[^=,']*\b{latest.NAME}\b[^=,']*")
    return [word.sub(folder, one) if one.lstrip("+").startswith("init_from=") else one for one in overrides]


def _readable(override: str) -> str:
    key, _, value = override.partition("=")
    if PATH.fullmatch(key):
        value = HOME.sub(lambda home: f"{home[1]}{expanded(home[2])}", value)
    if key == "hydra.searchpath":
        for address in texts(override):
            options.require_folder(key, address)
    override = f"{key}={value}" if value else override
    if not value or GRAMMAR.search(value):
        return override
    chosen = bool(options.names(key.lstrip("+").partition("@")[0]))
    text = PIECE.sub(lambda piece: _piece(piece[0], chosen=chosen), value)
    return override if misread(f"{key}={text}") else f"{key}={text}"


def _piece(text: str, *, chosen: bool) -> str:
    return quoted(text.strip()) if misread(f"key={text}") or (chosen and NO_NAME.fullmatch(text)) else text
