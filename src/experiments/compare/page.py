"""A comparison as one self-contained page: no script, nothing fetched, every name in it escaped by Jinja."""

from __future__ import annotations

import base64
import datetime
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.image import imsave

from experiments.compare import curves, rows, seeds
from experiments.compare.comparison import Comparison
from experiments.config.language import Language
from experiments.parity import stage_sweep
from experiments.sweeps.rows import are_stages, place, stage_rows
from experiments.tracking.figures import PICTURES, arrays, label, pixels

STAGE_COLUMNS = ("gain", "printed", "ours")

FEW = 3  # up to so many runs show their own mistakes; of more, the best run shows its

Row = Mapping[str, str]


def page(comparison: Comparison, sweeps: Sequence[Path], axis: str) -> str:
    """Return the page as HTML; `sweeps` are folders that may hold parity verdicts, `axis` is that of the curves."""
    say, metric = comparison.say, comparison.metric
    groups = seeds.groups(comparison)
    repeated = seeds.repeated(groups)
    stages = _stages(comparison)
    unmarked = repeated or comparison.best.behind  # the best of several seeds is luck
    loader = PackageLoader(__package__)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("page.html").render(
        say=say,
        title=say("The stages compared by {metric}" if stages else "Runs compared by {metric}", metric=metric),
        days=_days(comparison),
        metric=metric,
        smaller=comparison.best.sign(metric) > 0,
        answer=rows.headline(comparison, seeds.rounded),
        over=", ".join(comparison.over),
        groups=seeds.rows(groups, comparison.metrics, say) if repeated else [],
        stages=bool(stages),
        runs=_runs(comparison, stages),
        best=None if unmarked else comparison.runs.index(comparison.best),
        axis=say(curves.AXES[axis]),
        curves={name: curves.svg(comparison, name, axis) for name in comparison.metrics},
        digits=list(_mistakes(comparison)),
        parity=[(sweep.name, _verdicts(sweep, say)) for sweep in sweeps if (sweep / stage_sweep.FILE).is_file()],
        notes=[*comparison.notes, *seeds.notes(groups, metric, say)],
        sentences=[say("gain"), say("minus the first")],  # columns that hold sentences
        directions={verdict.text: verdict.direction for verdict in seeds.verdicts(groups, metric, say)},
    )


def _days(comparison: Comparison) -> str:
    """Return the day on which the runs started, or the first and the last."""
    times = [run.job.start.time / 1000 for run in comparison.runs if run.job.started]
    days = [datetime.datetime.fromtimestamp(time).astimezone().date().isoformat() for time in times]
    return " - ".join(sorted({min(days), max(days)}))


def _stages(comparison: Comparison) -> dict[Path, dict[str, str]]:
    """Return the stage row of each run's folder; empty where these are not the tutorial's stages."""
    started = [run.job for run in comparison.runs if run.job.started]
    if not are_stages(started):
        return {}
    return {job.folder: row for job, row in zip(started, stage_rows(started, say=comparison.say), strict=True)}


def _runs(comparison: Comparison, stages: Mapping[Path, Row]) -> list[Row]:
    say = comparison.say
    table: list[Row] = []
    for run, row in zip(comparison.runs, rows.rows(comparison), strict=True):
        if stages:
            stage = stages.get(run.job.folder)
            extra = {say(head): stage[say(head)] if stage else "-" for head in STAGE_COLUMNS}
            rest = {key: text for key, text in row.items() if key not in (say("run"), "stage")}
            row = {say("stage"): row["stage"], **extra, **rest}
        table.append(row)
    return table


def _mistakes(comparison: Comparison) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the label and the mistakes of the best run, or of each of few; runs that kept none are left out."""
    for run in comparison.runs if len(comparison.runs) <= FEW else [comparison.best]:
        kept = _kept(run.job.folder)
        if len(kept.get("worst", ())):
            yield run.label, [_mistake(kept, number) for number in range(len(kept["worst"]))]


def _kept(folder: Path) -> Mapping[str, np.ndarray]:
    """Return a run's images; empty where the file is missing or damaged."""
    try:
        return arrays(folder / PICTURES)
    except (OSError, ValueError, zipfile.BadZipFile):
        return {}


def _mistake(kept: Mapping[str, np.ndarray], number: int) -> dict[str, str]:
    names = [str(name) for name in kept["labels"]]
    true, answer = (label(names, kept[f"worst_{which}"][number]) for which in ("true", "predicted"))
    png = io.BytesIO()
    imsave(png, pixels(kept["worst"][number]), format="png", cmap="gray", vmin=0, vmax=1)
    return {
        "image": f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}",
        "label": true,
        "answer": answer,
        "share": kept["worst_probability"][number],
    }


def _verdicts(sweep: Path, say: Language) -> list[Row] | None:
    """Return the rows of a sweep's verdicts; None where its file cannot be read."""
    try:
        return [_verdict(item, say) for item in json.loads((sweep / stage_sweep.FILE).read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _verdict(item: Mapping[str, Any], say: Language) -> Row:
    difference = item.get("difference")
    before, stage = item["pair"]
    return {
        say("from"): str(before),
        say("to"): str(stage),
        say("verdict"): say(str(item["verdict"])),
        say("where"): place(str(item.get("where") or "-"), say),
        say("largest difference"): f"{difference:.1e}" if isinstance(difference, int | float) else "-",
        say("expected"): say(str(item.get("expected") or "-")),
        say("as expected"): "-" if "holds" not in item else say("yes") if item["holds"] else say("no"),
    }
