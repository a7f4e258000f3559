"""The epochs behind a run's starting weights: with `init_from` it has trained for more than its own."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import yaml

from experiments.config import stages
from experiments.config.language import Language
from experiments.errors import ConfigError
from experiments.runs import overrides
from experiments.runs.find import find_run
from experiments.tracking import journal, record
from experiments.tracking.record import RunRecord

FRESH = "null"


def epochs(runs: Sequence[RunRecord]) -> list[str]:
    """Return the epochs behind each run's starting weights, `?` if unknown; empty for none, or if all are equal."""
    found = [_behind(run.start.params.get("init_from", FRESH), run) for run in runs]
    return ["" if count == 0 or len(set(found)) == 1 else str(count or "?") for count in found]


def suffix(run: RunRecord, count: str, keys: Sequence[str], say: Language) -> str:
    """Return the end of a run's label: the epochs behind it, and whose they are unless the settings `keys` tell."""
    if not count:
        return ""
    source = "" if "init_from" in keys else say(", from {source}", source=run.start.params["init_from"])
    return f" ({say('+{count} epochs', count=count)}{source})"


def _behind(source: str, run: RunRecord) -> int | None:
    """Return the epochs of what a run's `init_from` names and of what is behind that; None if unknown."""
    if source == FRESH:
        return 0
    if (folder := _folder(source, run)) is not None:
        first = record.read(folder)
        own, before = len(first.history), _behind(first.start.params.get("init_from", FRESH), first)
    elif source in stages.names():  # trained under the overrides of the run that starts from it
        preset = yaml.safe_load((resources.files("experiments.conf") / "stage" / f"{source}.yaml").read_text("utf-8"))
        typed = any(overrides.key(item) == "epochs" for item in run.overrides)
        own, before = int((run.start.params if typed else preset)["epochs"]), _behind(preset["init_from"] or FRESH, run)
    else:
        return None
    return None if before is None else own + before


def _folder(source: str, run: RunRecord) -> Path | None:
    """Return the folder of the run that `init_from` names; None if it is not a run, or is gone."""
    place = Path(run.start.place.folder)
    path = place / Path(source).expanduser()
    try:
        found = find_run(place / run.start.params.get("output_root", "outputs"), str(path) if path.is_dir() else source)
    except ConfigError:
        return None
    return found if found is not None and (found / journal.FILE).is_file() else None
