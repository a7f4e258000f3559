"""A job that reused a run: the small file in its folder that names the run, and whoever reads the folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config import secrets
from experiments.errors import ConfigError, Fault
from experiments.files import replacing
from experiments.runs.terminal import relative
from experiments.tracking import journal

FILE = "reused.json"


def refer(folder: Path, found: Path, key: str, choices: Mapping[str, str], params: Mapping[str, str]) -> None:
    """Leave word in a job's folder that it took another's run, and with what settings it asked for it."""
    content = {"folder": str(found), "run_key": key, "choices": dict(choices), "params": dict(params)}
    with replacing(folder / FILE) as temporary:
        temporary.write_text(json.dumps(secrets.masked_deep(content), indent=2), encoding="utf-8")


def referred(folder: Path) -> Path | None:
    """The folder of the run that the job in a folder took; None where it took none, or that is gone or another now."""
    word = _word(folder)
    return Path(word["folder"]) if word and journal.run_key(Path(word["folder"])) == word["run_key"] else None


def lost(folder: Path) -> str | None:
    """What is told of a job whose run is no longer the one that it took; None of any other."""
    word = _word(folder)
    if not word or referred(folder) is not None:
        return None
    return f"the run that it took is gone or was trained longer since: {relative(Path(word['folder']))}"


def meant(folder: Path) -> Path:
    """The folder of the run that a folder stands for: itself, but of a job that took another's.

    Raises:
        ConfigError: that one is no longer what the job took.
    """
    if (problem := lost(folder)) is not None:
        problem = f"{problem}; its own command trains it in this folder, or resume of its sweep"
        raise ConfigError(Fault(relative(folder), problem))
    return referred(folder) or folder


def summary(folder: Path) -> journal.Event:
    """A job that took a run, at a glance, like `journal.summary`: that run's figures under this job's settings.

    `folder` and `reused` are that run's.
    """
    found, word = referred(folder), _word(folder)
    assert found is not None
    whole = journal.summary(found)
    # Of the other's tags only what is not a choice of options: those are this job's own.
    tags = {key: value for key, value in whole["start"]["tags"].items() if "." in key}
    start = {**whole["start"], "tags": {**tags, **word["choices"]}, "params": word["params"]}
    return {**whole, "start": start, "reused": found}


def forget(folder: Path) -> None:
    """The job trains after all: the run that it took is another now."""
    (folder / FILE).unlink(missing_ok=True)


def _word(folder: Path) -> dict[str, Any]:
    try:
        word = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return word if isinstance(word, dict) and word.keys() >= {"folder", "run_key"} else {}
