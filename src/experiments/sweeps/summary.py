"""The end of a sweep: its jobs in a table, best first, with the settings that differ and a link that compares them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tabulate import tabulate

from experiments.errors import UserError
from experiments.files import replacing
from experiments.folders import ERROR
from experiments.sweeps import best, parent
from experiments.sweeps.settings import differing, settings
from experiments.tracking import journal, process
from experiments.tracking.uri import store_uri
from experiments.views import terminal
from experiments.views.notes import shown

log = logging.getLogger(__name__)

SUMMARY = "summary.md"
PARITY = "parity.json"
# The figures that the table shows, where there are any.
SHOWN = ("best/valid_loss", "valid/loss", "valid/accuracy")


def finish(config: DictConfig) -> None:
    """Show the table, keep it as the parent run's description, and wait until all runs are in MLflow."""
    sweep = Path(config.hydra.sweep.dir).resolve()
    jobs = collect(sweep)
    if not jobs:
        return
    failed = [job for job in jobs if job["status"] != "FINISHED"]
    found = None
    if are_stages(jobs):
        rows = stage_rows(jobs, [] if failed else judged(sweep, jobs, config.sweep.parity))
    else:
        rows = job_rows(jobs, parent.varied(sweep))
        found = best.of(jobs, parent.varied(sweep))
    log.info("\n%s\n", table(rows, "simple"))
    for job in failed:
        log.warning("job %s %s: %s", job["job"], job["status"], job["reason"])
    if found:
        log.info("best    %s", found.told())
    whole = f"Best: {found.told()}\n\n" if found else ""
    whole += table(rows, "github")
    (sweep / SUMMARY).write_text(whole + "\n", encoding="utf-8")
    log.info("sweep   %s", terminal.relative(sweep))
    if (sweep / journal.FILE).exists():
        journal.end(
            sweep,
            "FAILED" if failed else "FINISHED",
            f"{len(failed)} of {len(jobs)} jobs failed" if failed else "",
            note=shown(whole, f"The rest is in the artifact `{SUMMARY}`."),
            figures=found.figures if found else None,
            tags=found.tags if found else None,
        )
        _arrive(config, sweep, jobs)


def collect(sweep: Path) -> list[dict[str, Any]]:
    """The summaries of a sweep's jobs, in the order of their numbers; a job that never began is FAILED."""
    found = []
    for folder in job_folders(sweep):
        if (folder / journal.FILE).is_file():
            found.append({**journal.summary(folder), "job": str(folder.relative_to(sweep))})
        else:
            reason = (folder / ERROR).read_text(encoding="utf-8") if (folder / ERROR).is_file() else "it never began"
            empty: dict[str, Any] = {"folder": folder, "start": {}, "figures": {}, "series": {}}
            empty["job"] = str(folder.relative_to(sweep))
            found.append({**empty, "status": "FAILED", "reason": reason.strip().splitlines()[-1]})
    return found


def job_folders(sweep: Path) -> list[Path]:
    """Where a sweep's jobs left something, whatever `hydra.sweep.subdir` calls their folders; numbers in order."""
    begun = {path.parent for path in sweep.rglob(journal.FILE)} - {sweep}
    made = {path.parents[1] for path in sweep.rglob(".hydra/overrides.yaml")}
    return sorted(begun | made, key=lambda path: (int(path.name) if path.name.isdecimal() else -1, str(path)))


def job_rows(jobs: Sequence[Mapping[str, Any]], varied: Sequence[str]) -> list[dict[str, str]]:
    """A row a job, best validation loss first, with only the settings that differ."""
    values = [settings(job) for job in jobs]
    keys = differing([given for given, job in zip(values, jobs, strict=True) if job["start"]])
    keys += sorted({key for given in values for key in given if key in varied} - set(keys))
    figures = [name for name in SHOWN if any(name in job["figures"] for job in jobs)]
    rows = []
    for job, given in zip(jobs, values, strict=True):
        seconds = sum(job["series"].get("time/epoch_seconds", []))
        row = {"job": job["job"], **{key: given.get(key, "") for key in keys}}
        row |= {name: f"{job['figures'][name]:.4f}" if name in job["figures"] else "" for name in figures}
        rows.append(row | {"seconds": f"{seconds:.1f}", "status": job["status"]})
    order = sorted(range(len(jobs)), key=lambda index: _rank(jobs[index]))
    return [rows[index] for index in order]


def judged(sweep: Path, jobs: Sequence[Mapping[str, Any]], steps: int | None) -> list[dict[str, Any]]:
    """Each stage against the one before, kept in the sweep's folder; nothing where `steps` is None."""
    if steps is None:
        return []
    # Imported now: it takes torch, which a sweep's own process may have done without.
    from experiments.parity import neighbours
    from experiments.preparation import unchosen

    log.info("each stage against the one before, from the same weights, over %d steps ...", steps)
    among = {job["start"]["tags"]["stage"] for job in jobs}
    found: list[dict[str, Any]] = []
    try:
        for pair in neighbours.each(unchosen(jobs[0]["start"]["overrides"]), steps=steps, among=among):
            found.append(pair.told())
            if not pair.holds:
                log.warning("stage %s: %s was expected; it %s", pair.stage, pair.expected, pair.verdict)
    except UserError as error:
        log.warning("they cannot be compared: %s", error)
    with replacing(sweep / PARITY) as temporary:
        temporary.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return found


def stage_rows(jobs: Sequence[Mapping[str, Any]], parity: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, str]]:
    """The tutorial's stages in their order: what is gained, what the tutorial prints, what this run gave."""
    verdicts = {pair["pair"][1]: _verdict(pair) for pair in parity}
    rows = []
    for job in jobs:
        tutorial = OmegaConf.load(job["folder"] / "config.yaml").tutorial
        language = OmegaConf.load(job["folder"] / "config.yaml").language
        rows.append(
            {
                "stage": job["start"]["tags"]["stage"],
                "gain": tutorial.gain[language],
                "printed": _printed(tutorial.prints),
                "ours": _ours(tutorial.prints, job["series"]),
                "valid/loss": "  ".join(f"{loss:.4f}" for loss in job["series"].get("valid/loss", [])),
                **({"parity": verdicts.get(job["start"]["tags"]["stage"], "")} if verdicts else {}),
                "seconds": f"{sum(job['series'].get('time/epoch_seconds', [])):.1f}",
                "status": job["status"],
            }
        )
    return rows


def _verdict(pair: Mapping[str, Any]) -> str:
    """How a stage compares to the one before, in a word and a place."""
    return f"{pair['verdict']} ({pair['where']})" if pair["verdict"] == "differs" else str(pair["verdict"])


def table(rows: Sequence[Mapping[str, str]], style: str) -> str:
    """Rows under their keys, in one of tabulate's styles."""
    return str(tabulate(rows, headers="keys", tablefmt=style, disable_numparse=True))


def _printed(prints: Mapping[str, Any]) -> str:
    """The tutorial's training figure of a stage: its last, which tells how the training went."""
    if not prints:
        return "-"
    value = (
        list(prints.values())[-1] if "tutorial/last_batch_loss" not in prints else prints["tutorial/last_batch_loss"]
    )
    return "  ".join(f"{figure:.4f}" for figure in value) if OmegaConf.is_list(value) else f"{value:.4f}"


def _ours(prints: Mapping[str, Any], series: Mapping[str, list[float]]) -> str:
    name = "tutorial/last_batch_loss" if "tutorial/last_batch_loss" in prints else "valid/loss"
    return "  ".join(f"{figure:.4f}" for figure in series.get(name, []))


def are_stages(jobs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these are runs of the tutorial's stages, each of another one."""
    stages = [job["start"].get("tags", {}).get("stage") for job in jobs]
    distinct = len(jobs) > 1 and all(stages) and len(set(stages)) == len(stages)
    return distinct and all(OmegaConf.load(job["folder"] / "config.yaml").tutorial for job in jobs)


def _rank(job: Mapping[str, Any]) -> tuple[bool, float]:
    loss = job["figures"].get("best/valid_loss", math.nan)
    return math.isnan(loss), loss


def _arrive(config: DictConfig, sweep: Path, jobs: Sequence[Mapping[str, Any]]) -> None:
    tracking = config.tracking
    if tracking.name == "none":
        return
    uri = store_uri(tracking.uri)
    uploader = process.uploader(tracking, config.output_root)
    uploader.follow(sweep)
    folders = [job["folder"] for job in jobs if job["start"]]
    missing = uploader.wait([sweep, *folders], tracking.wait_seconds)
    terminal.arrived(uri, folders, [folder for folder in missing if folder != sweep])
