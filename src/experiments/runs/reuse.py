"""The same training again is not trained again: a job may take a finished run that has its run key.

With `reuse=finished` such a job leaves one small file in its folder, which names the run it took, and gives that run's
result at once. Whoever reads the folder (a sweep's table, compare, load) is led to that run; MLflow has it already, and
is given no second run of it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import ConfigError, Fault
from experiments.files import replacing
from experiments.runs import terminal
from experiments.tracking import delivery, journal

if TYPE_CHECKING:
    from experiments.runs.metadata import Job
    from experiments.runs.preparation import Preparation
    from experiments.training.result import Result

log = logging.getLogger(__name__)

FILE = "reused.json"


def take(prepared: Preparation, job: Job, params: Mapping[str, str]) -> Result | None:
    """The result of a finished run with the same run key, which the job's folder then refers to; None where it trains.

    Args:
        prepared: the job's configuration with all it names.
        job: as Hydra gives it.
        params: its settings by dotted key, as a run of its own would tell them.
    """
    root = prepared.root
    if root.reuse == "never" or root.inspect.profile or root.inspect.breakpoint:
        return None
    found = finished(Path(root.output_root), prepared.key)
    if found is None:
        return None
    refer(job.folder, found, prepared.key, job.choices, params)
    result = _result(prepared, found)
    log.info("reuse=finished: takes %s, the same training (run key %s)", terminal.relative(found), prepared.key)
    log.info("best valid/loss %r at epoch %d", result.best_valid_loss, result.best_epoch)
    return result


def finished(output_root: Path, key: str) -> Path | None:
    """The folder of a finished run with this run key, with its weights still there."""
    from experiments.training import weights

    found = weights.recall(output_root, key)
    return found if found is not None and journal.summary(found)["status"] == "FINISHED" else None


def refer(folder: Path, found: Path, key: str, choices: Mapping[str, str], params: Mapping[str, str]) -> None:
    """Leave word in a job's folder that it took another's run, and with what settings it asked for it."""
    from experiments.config import secrets

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
    return f"the run that it took is gone or was trained longer since: {terminal.relative(Path(word['folder']))}"


def meant(folder: Path) -> Path:
    """The folder of the run that a folder stands for: itself, but of a job that took another's.

    Raises:
        ConfigError: that one is no longer what the job took.
    """
    if (problem := lost(folder)) is not None:
        problem = f"{problem}; its own command trains it in this folder, or resume of its sweep"
        raise ConfigError(Fault(terminal.relative(folder), problem))
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


def _result(prepared: Preparation, found: Path) -> Result:
    from experiments.training import build, weights
    from experiments.training.result import Result

    model = build.build_model(prepared.root, prepared.splits.spec, prepared.seeds)
    weights.into(model, weights.load(found, key="reuse"), str(found), key="reuse")
    figures = journal.summary(found)["figures"]
    untrained = {name: value for name, value in figures.items() if name.startswith("untrained/")}
    history = journal.history(found)
    stopped = "" if len(history) == prepared.root.epochs else f"the run that was taken ended after {len(history)}"
    return Result(model, untrained, history, stopped, found, delivery.state(found).get("run_id"))
