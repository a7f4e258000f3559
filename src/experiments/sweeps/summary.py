"""The end of a sweep: its jobs in a table, best first, with the settings that differ and a link that compares them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.config.language import Language
from experiments.config.store_uri import store_uri
from experiments.runs import references, sweep_plan, terminal
from experiments.runs.folder import ERROR, reason, refusal
from experiments.runs.job_record import NOT_RUN, JobRecord
from experiments.runs.tables import table
from experiments.sweeps import best
from experiments.sweeps.rows import LEAST, are_stages, job_rows, stage_rows
from experiments.tracking import client, delivered, journal, ownership, record
from experiments.tracking.markdown import shown
from experiments.tracking.record import RUNNING

log = logging.getLogger(__name__)

SUMMARY = "summary.md"
FAILURES = "failures.txt"
NOTE = "search.txt"  # what a search came to, beside its table

# Compares each stage with the one before: the sweep's folder, its finished jobs, and `sweep.parity`.
Judge = Callable[[Path, Sequence[JobRecord], int | None], Sequence[Mapping[str, Any]]]


@contextlib.contextmanager
def finishing(config: DictConfig, judge: Judge, *, left: bool = False) -> Iterator[None]:
    """Finish a sweep however it ends; one that is `left` in a queue only if that fails."""
    try:
        yield
    except BaseException as error:
        finish(config, judge, error)
        raise
    if not left:
        finish(config, judge)


def finish(config: DictConfig, judge: Judge, error: BaseException | None = None) -> None:
    """Show the table, keep it as the parent run's description, and wait until all runs are in MLflow.

    The verdicts on a sweep over the tutorial's stages are the `judge`'s; an `error` ended it early.
    """
    sweep = Path(config.hydra.sweep.dir).resolve()
    jobs = _ended_jobs(sweep)
    if not jobs and not (sweep / journal.FILE).exists():
        return
    found = None
    if are_stages(jobs):
        finished = all(job.finished for job in jobs)
        rows = stage_rows(jobs, judge(sweep, jobs, config.sweep.parity) if finished else ())
    else:
        varied = sweep_plan.read(sweep).varied
        rows = job_rows(jobs, varied)
        found = best.of(jobs, varied)
    failed = [job for job in jobs if job.failed]
    _log(sweep, rows, failed, found)
    _keep_errors(sweep, failed)
    for line in notes(sweep):
        log.info("%-7s %s", "search", line)
    text = (f"Best: {found.text}\n\n" if found else "") + "".join(f"{line}\n\n" for line in notes(sweep))
    text += table(rows, markdown=True)
    (sweep / SUMMARY).write_text(text + "\n", encoding="utf-8")
    if (sweep / journal.FILE).exists():
        note = shown(text, f"The rest is in the artifact `{SUMMARY}`.")
        figures, tags = (found.metrics, found.tags) if found else (None, None)
        journal.end(sweep, *_end(jobs, len(failed), error), note=note, figures=figures, tags=tags)
        _arrive(config, sweep, jobs)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        terminal.interrupted(sweep)


def notes(sweep: Path) -> list[str]:
    """Return what a search came to, in lines; none for another sweep."""
    return (sweep / NOTE).read_text(encoding="utf-8").splitlines() if (sweep / NOTE).is_file() else []


def _log(sweep: Path, rows: Sequence[Mapping[str, str]], failed: Sequence[JobRecord], found: best.Best | None) -> None:
    say = Language.of(*sweep.glob("*"))
    if rows:
        terminal.show(rows, best=found is not None, least=[*map(say, LEAST)], whole=terminal.relative(sweep / SUMMARY))
    for job in failed:
        log.warning("job %s %s: %s", job.job, job.status, job.reason)
    if found:
        log.info("%-7s %s", say("best"), say(found.text))
    log.info("sweep   %s", terminal.relative(sweep))


def _keep_errors(sweep: Path, failed: Sequence[JobRecord]) -> None:
    """Keep the errors of failed jobs for the parent run, since an unstarted job has no run of its own."""
    paths = {job.job: job.folder / ERROR for job in failed if (job.folder / ERROR).is_file()}
    texts = [f"job {job}, {terminal.relative(path)}:\n{path.read_text('utf-8')}" for job, path in paths.items()]
    (sweep / FAILURES).unlink(missing_ok=True)
    if texts:
        (sweep / FAILURES).write_text("\n".join(texts), encoding="utf-8")


def _end(jobs: Sequence[JobRecord], failed: int, error: BaseException | None) -> tuple[str, str]:
    """Return the sweep's own status, and the reason for it."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        finished = sum(job.finished for job in jobs)
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else f"exit {error.code}"
        return "KILLED", f"{why}; {finished} of {len(jobs)} jobs are finished"
    left = sum(job.status == NOT_RUN for job in jobs)
    reasons = [f"{failed} of {len(jobs)} jobs failed"] if failed else []
    reasons += [f"{left} not run"] if left else []
    if reasons:
        return "FAILED", ", ".join(reasons)
    return ("FAILED", f"{type(error).__name__}: {error}") if error else ("FINISHED", "")


def collect(sweep: Path) -> list[JobRecord]:
    """Return the records of a sweep's jobs, in the order of their numbers; a job that never started is FAILED."""
    # Whatever `hydra.sweep.subdir` names their folders.
    started = {path.parent for path in sweep.rglob(journal.FILE)} - {sweep}
    made = {path.parents[1] for path in sweep.rglob(".hydra/overrides.yaml")}
    found = []
    for folder in sorted(started | made, key=lambda path: (int(path.name) if path.name.isdecimal() else -1, str(path))):
        name = str(folder.relative_to(sweep))
        if (folder / journal.FILE).is_file():
            run = record.read(folder)
            refused = "" if run.finished else refusal(folder)
            found.append(JobRecord.of(run, name, reason=refused or run.reason))
        elif references.referred(folder) is not None:
            found.append(references.job_record(folder, name))
        else:
            why = reason(folder) or references.lost(folder) or "it never started"
            found.append(JobRecord.unstarted(folder, name, why))
    return found


def all_jobs(sweep: Path) -> list[JobRecord]:
    """Return the records of a sweep's jobs, and of those that were planned and not run."""
    jobs = collect(sweep)
    names = {job.job for job in jobs}
    return jobs + [
        JobRecord.unstarted(sweep / name, name, "", status=NOT_RUN, given=given)
        for name, given in sweep_plan.read(sweep).listed.items()
        if name not in names
    ]


def _ended_jobs(sweep: Path) -> list[JobRecord]:
    """Return all jobs when the sweep ends; a job's process may have been killed while the sweep's own lives."""
    for job in collect(sweep):
        if job.status == RUNNING:
            ownership.mark_killed(job.folder, "its process died")
    return all_jobs(sweep)


def _arrive(config: DictConfig, sweep: Path, jobs: Sequence[JobRecord]) -> None:
    """Wait for the sweep and its jobs to arrive in MLflow, and print where they are."""
    tracking = config.tracking
    if tracking.name == "none":
        return
    uri = store_uri(tracking.uri)
    uploader = client.uploader(tracking, config.output_root)
    uploader.follow(sweep)
    # A reused run may be in another store, or in none.
    started = [job for job in jobs if job.started and (job.reused is None or delivered.is_in(job.folder, uri))]
    folders = list(dict.fromkeys(job.folder for job in started))
    missing = uploader.wait([sweep, *folders], tracking.wait_seconds)
    parent = sweep if all(job.reused is None for job in jobs) else None
    terminal.arrived(uri, folders, [folder for folder in missing if folder != sweep], parent)
