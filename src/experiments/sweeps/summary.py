"""The end of a sweep: its jobs in a table, best first, with the settings that differ and a link that compares them."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tabulate import tabulate

from experiments.config.store_uri import store_uri
from experiments.errors import UserError
from experiments.files import replacing
from experiments.runs import references, sweep_plan, terminal
from experiments.runs.folder import ERROR, reason, refusal
from experiments.runs.job_record import NOT_RUN, JobRecord
from experiments.sweeps import best
from experiments.sweeps.settings_diff import differing, settings
from experiments.tracking import client, delivered, journal, ownership, record
from experiments.tracking.markdown import shown
from experiments.tracking.record import RUNNING

log = logging.getLogger(__name__)

SUMMARY = "summary.md"
PARITY = "parity.json"
FAILURES = "failures.txt"
# The figures that the table shows, where there are any.
SHOWN = ("best/valid_loss", "valid/loss", "valid/accuracy")


@contextlib.contextmanager
def finished_anyway(config: DictConfig) -> Iterator[None]:
    """Finish a sweep that ends by an error or by Ctrl-C, for then Hydra calls no callback."""
    try:
        yield
    except BaseException as error:
        finish(config, error)
        raise


def finish(config: DictConfig, error: BaseException | None = None) -> None:
    """Show the table, keep it as the parent run's description, and wait until all runs are in MLflow.

    Args:
        config: the sweep's.
        error: what ended it, if anything did.
    """
    sweep = Path(config.hydra.sweep.dir).resolve()
    jobs = _ended_jobs(sweep)
    if not jobs and not (sweep / journal.FILE).exists():
        return
    varied = sweep_plan.read(sweep).varied
    failed = [job for job in jobs if job.failed]
    found = None
    if are_stages(jobs):
        finished = all(job.finished for job in jobs)
        rows = stage_rows(jobs, [] if not finished else judged(sweep, jobs, config.sweep.parity))
    else:
        rows = job_rows(jobs, varied)
        found = best.of(jobs, varied)
    if jobs:
        log.info("\n%s\n", table(rows, "simple"))
    for job in failed:
        log.warning("job %s %s: %s", job.job, job.status, job.reason)
    _keep_errors(sweep, failed)
    if found:
        log.info("best    %s", found.told())
    whole = f"Best: {found.told()}\n\n" if found else ""
    whole += table(rows, "github")
    (sweep / SUMMARY).write_text(whole + "\n", encoding="utf-8")
    log.info("sweep   %s", terminal.relative(sweep))
    if (sweep / journal.FILE).exists():
        journal.end(
            sweep,
            *_end(jobs, len(failed), error),
            note=shown(whole, f"The rest is in the artifact `{SUMMARY}`."),
            figures=found.figures if found else None,
            tags=found.tags if found else None,
        )
        _arrive(config, sweep, jobs)


def _keep_errors(sweep: Path, failed: Sequence[JobRecord]) -> None:
    """Why each job failed, in the sweep's folder; for the parent run, since a job that never began has no run."""
    kept = [(job, job.folder / ERROR) for job in failed if (job.folder / ERROR).is_file()]
    texts = [f"job {job.job}, {terminal.relative(path)}:\n{path.read_text(encoding='utf-8')}" for job, path in kept]
    (sweep / FAILURES).unlink(missing_ok=True)
    if texts:
        (sweep / FAILURES).write_text("\n".join(texts), encoding="utf-8")


def _end(jobs: Sequence[JobRecord], failed: int, error: BaseException | None) -> tuple[str, str]:
    """The sweep's own status, and why it has it."""
    left = sum(job.status == NOT_RUN for job in jobs)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        finished = sum(job.finished for job in jobs)
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else f"exit {error.code}"
        return "KILLED", f"{why}; {finished} of {len(jobs)} jobs are finished"
    if failed or left:
        told = [f"{failed} of {len(jobs)} jobs failed"] if failed else []
        return "FAILED", ", ".join([*told, *([f"{left} not run"] if left else [])])
    return ("FAILED", f"{type(error).__name__}: {error}") if error else ("FINISHED", "")


def collect(sweep: Path) -> list[JobRecord]:
    """The records of a sweep's jobs, in the order of their numbers; a job that never started is FAILED."""
    found = []
    for folder in job_folders(sweep):
        name = str(folder.relative_to(sweep))
        if (folder / journal.FILE).is_file():
            run = record.read(folder)
            refused = "" if run.finished else refusal(folder)
            found.append(JobRecord.of(run, name, reason=refused or run.reason))
        elif references.referred(folder) is not None:
            found.append(references.job_record(folder, name))
        else:
            why = reason(folder) or references.lost(folder) or "it never began"
            found.append(JobRecord.unstarted(folder, name, why))
    return found


def _ended_jobs(sweep: Path) -> list[JobRecord]:
    """All jobs when the sweep ends, those too that left nothing, since it ended before their turn."""
    jobs = collect(sweep)
    # A job's process may have been killed where the sweep's own lives.
    if [job for job in jobs if job.status == RUNNING and ownership.mark_killed(job.folder, "its process died")]:
        jobs = collect(sweep)
    there = {job.job for job in jobs}
    left = {name: given for name, given in sweep_plan.read(sweep).listed.items() if name not in there}
    planned = [JobRecord.unstarted(sweep / name, name, "", status=NOT_RUN, given=given) for name, given in left.items()]
    return [*jobs, *planned]


def job_folders(sweep: Path) -> list[Path]:
    """Where a sweep's jobs left something, whatever `hydra.sweep.subdir` calls their folders; numbers in order."""
    begun = {path.parent for path in sweep.rglob(journal.FILE)} - {sweep}
    made = {path.parents[1] for path in sweep.rglob(".hydra/overrides.yaml")}
    return sorted(begun | made, key=lambda path: (int(path.name) if path.name.isdecimal() else -1, str(path)))


def job_rows(jobs: Sequence[JobRecord], varied: Sequence[str]) -> list[dict[str, str]]:
    """A row a job, best validation loss first, with only the settings that differ."""
    values = [settings(job) for job in jobs]
    keys = differing([given for given, job in zip(values, jobs, strict=True) if job.started])
    keys += sorted({key for given in values for key in given if key in varied} - set(keys))
    figures = [name for name in SHOWN if any(name in job.figures for job in jobs)]
    rows = []
    for job, given in zip(jobs, values, strict=True):
        seconds = sum(job.series("time/epoch_seconds"))
        row = {"job": job.job, **{key: given.get(key, "") for key in keys}}
        row |= {name: f"{job.figures[name]:.4f}" if name in job.figures else "" for name in figures}
        rows.append(row | {"seconds": f"{seconds:.1f}", **_ended(job, jobs)})
    order = sorted(range(len(jobs)), key=lambda index: _rank(jobs[index]))
    return [rows[index] for index in order]


def judged(sweep: Path, jobs: Sequence[JobRecord], steps: int | None) -> list[dict[str, Any]]:
    """Each stage against the one before, kept in the sweep's folder; nothing where `steps` is None."""
    if steps is None:
        return []
    # Imported now: it takes torch, which a sweep's own process may have done without.
    from experiments.parity import stage_pairs
    from experiments.runs.preparation import unchosen

    log.info("each stage against the one before, from the same weights, over %d steps ...", steps)
    among = {job.start.tags["stage"] for job in jobs}
    found: list[dict[str, Any]] = []
    try:
        for pair in stage_pairs.each(unchosen(jobs[0].overrides), steps=steps, among=among):
            found.append(pair.told())
            if not pair.holds:
                log.warning("stage %s: %s was expected; it %s", pair.stage, pair.expected, pair.verdict)
    except UserError as error:
        log.warning("they cannot be compared: %s", error)
    with replacing(sweep / PARITY) as temporary:
        temporary.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return found


def stage_rows(jobs: Sequence[JobRecord], parity: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, str]]:
    """The tutorial's stages in their order: what is gained, what the tutorial prints, what this run gave."""
    verdicts = {pair["pair"][1]: _verdict(pair) for pair in parity}
    rows = []
    for job in jobs:
        tutorial = OmegaConf.load(job.folder / "config.yaml").tutorial
        language = OmegaConf.load(job.folder / "config.yaml").language
        rows.append(
            {
                "stage": job.start.tags["stage"],
                "gain": tutorial.gain[language],
                "printed": _printed(tutorial.prints),
                "ours": _ours(tutorial.prints, job),
                "valid/loss": "  ".join(f"{loss:.4f}" for loss in job.series("valid/loss")),
                **({"parity": verdicts.get(job.start.tags["stage"], "")} if verdicts else {}),
                "seconds": f"{sum(job.series('time/epoch_seconds')):.1f}",
                **_ended(job, jobs),
            }
        )
    return rows


def _ended(job: JobRecord, jobs: Sequence[JobRecord]) -> dict[str, str]:
    """How a job ended, and whose training it is where that of another run was taken."""
    if not any(other.reused for other in jobs):
        return {"status": job.status}
    return {"reused from": terminal.relative(job.reused) if job.reused else "", "status": job.status}


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


def _ours(prints: Mapping[str, Any], job: JobRecord) -> str:
    name = "tutorial/last_batch_loss" if "tutorial/last_batch_loss" in prints else "valid/loss"
    return "  ".join(f"{figure:.4f}" for figure in job.series(name))


def are_stages(jobs: Sequence[JobRecord]) -> bool:
    """Whether these are runs of the tutorial's stages, each of another one."""
    stages = [job.start.tags.get("stage") for job in jobs]
    distinct = len(jobs) > 1 and all(stages) and len(set(stages)) == len(stages)
    return distinct and all(OmegaConf.load(job.folder / "config.yaml").tutorial for job in jobs)


def _rank(job: JobRecord) -> tuple[bool, float]:
    loss = job.figures.get("best/valid_loss", math.nan)
    return math.isnan(loss), loss


def _arrive(config: DictConfig, sweep: Path, jobs: Sequence[JobRecord]) -> None:
    tracking = config.tracking
    if tracking.name == "none":
        return
    uri = store_uri(tracking.uri)
    uploader = client.uploader(tracking, config.output_root)
    uploader.follow(sweep)
    # A run that was taken from elsewhere may be in another store, or in none.
    begun = [job for job in jobs if job.started and (job.reused is None or delivered.is_in(job.folder, uri))]
    folders = list(dict.fromkeys(job.folder for job in begun))
    missing = uploader.wait([sweep, *folders], tracking.wait_seconds)
    terminal.arrived(uri, folders, [folder for folder in missing if folder != sweep])
