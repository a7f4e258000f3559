"""The epochs behind a run's starting weights: with `init_from` it has trained for more than its own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import yaml

from experiments.config import stages
from experiments.config.language import Language
from experiments.errors import ConfigError
from experiments.files import expanded
from experiments.runs import overrides
from experiments.runs.find import find_run
from experiments.tracking import journal, record
from experiments.tracking.record import RunRecord


def epochs(runs: Sequence[RunRecord]) -> list[str]:
    """Return the epochs behind each run's starting weights, `?` if unknown; empty for none, or if all are equal."""
    found = [_behind(run.start.params.get("init_from", "null"), run) for run in runs]
    return ["" if count == 0 or len(set(found)) == 1 else str(count or "?") for count in found]


def suffix(run: RunRecord, count: str, keys: Sequence[str], say: Language) -> str:
    """Return the end of a run's label: the epochs behind it, and whose they are unless the settings `keys` tell."""
    source = "" if "init_from" in keys else say(", from {source}", source=run.start.params.get("init_from"))
    more = say("+1 epoch") if count == "1" else say("+{count} epochs", count=count)
    return count and f" ({more}{source})"


def _behind(source: str, run: RunRecord) -> int | None:
    """Return the epochs of the training that a run's `init_from` names, and of all before it; None if unknown."""
    if source == "null":
        return 0
    if (first := _run(source, run)) is not None:
        own, before = len(first.history), _behind(first.start.params.get("init_from", "null"), first)
    elif source in stages.names():  # trained under the overrides of the run that starts from it
        preset = yaml.safe_load((resources.files("experiments.conf") / "stage" / f"{source}.yaml").read_text("utf-8"))
        typed = any(overrides.key(item) == "epochs" for item in run.overrides)
        own = int((run.start.params if typed else preset)["epochs"])
        before = _behind(preset["init_from"] or "null", run)
    else:
        return None
    return None if before is None else own + before


def _run(source: str, run: RunRecord) -> RunRecord | None:
    """Return the run that `init_from` names by its folder or its MLflow id; None if it is a stage, or gone."""
    place = Path(run.start.place.folder)
    path = place / expanded(source)
    with contextlib.suppress(ConfigError):
        found = find_run(place / run.start.params.get("output_root", "outputs"), str(path) if path.is_dir() else source)
        return record.read(found) if found is not None and (found / journal.FILE).is_file() else None
    return None
