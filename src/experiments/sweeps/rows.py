"""The rows of a sweep's table: jobs, best first, or the tutorial's stages in their order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.config.language import Language
from experiments.runs.job_record import JobRecord
from experiments.runs.settings_diff import differing, settings
from experiments.runs.terminal import relative

METRICS = ("best/valid_loss", "valid/loss", "valid/accuracy")  # shown where any job has them
# Left out first where a terminal is narrow.
LEAST = ("reused from", "gain", "valid/loss", "seconds", "valid/accuracy")
LAST_BATCH = "tutorial/last_batch_loss"


def job_rows(jobs: Sequence[JobRecord], varied: Sequence[str]) -> list[dict[str, str]]:
    """Return a row for each job, best validation loss first, with only the settings that differ."""
    values = [settings(job) for job in jobs]
    keys = differing([given for given, job in zip(values, jobs, strict=True) if job.started])
    keys += sorted({key for given in values for key in given if key in varied} - set(keys))
    metrics = [name for name in METRICS if any(name in job.figures for job in jobs)]
    say, rows = Language.of(*(job.folder for job in jobs)), []
    for job, given in zip(jobs, values, strict=True):
        row = {say("job"): job.job, **{key: given.get(key, "") for key in keys}}
        row |= {name: f"{job.figures[name]:.4f}" if name in job.figures else "" for name in metrics}
        loss = job.figures.get("best/valid_loss", math.nan)
        rows.append(((math.isnan(loss), loss), row | _ending(job, jobs, say)))
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def are_stages(jobs: Sequence[JobRecord]) -> bool:
    """Return whether these are runs of the tutorial's stages, no stage twice."""
    stages = [job.start.tags.get("stage") for job in jobs]
    distinct = len(jobs) > 1 and all(stages) and len(set(stages)) == len(stages)
    return distinct and all(_config(job).tutorial for job in jobs)


def stage_rows(
    jobs: Sequence[JobRecord], parity: Sequence[Mapping[str, Any]] = (), say: Language | None = None
) -> list[dict[str, str]]:
    """Return a row for each stage: what it gains, what the tutorial prints, what this run gave, and any verdicts."""
    say = say or Language.of(*(job.folder for job in jobs))
    verdicts = {pair["pair"][1]: _verdict(pair, say) for pair in parity}
    rows = []
    for job in jobs:
        stage, config = job.start.tags["stage"], _config(job)
        prints = config.tutorial.prints
        row = {
            say("stage"): stage,
            say("gain"): config.tutorial.gain[say.name],
            say("printed"): _printed(prints),
            say("ours"): _losses(job.series(LAST_BATCH if LAST_BATCH in prints else "valid/loss")),
            "valid/loss": _losses(job.series("valid/loss")),
        }
        if verdicts:
            row[say("parity")] = verdicts.get(stage, "")
        rows.append(row | _ending(job, jobs, say))
    return rows


def place(where: str, say: Language) -> str:
    """Return where two trainings differ (`batch x`, `parameters`) in a language."""
    kind, _, name = where.rpartition(" ")
    return say(f"{kind} {{name}}", name=name) if kind else say(where)


def _config(job: JobRecord) -> DictConfig:
    config = OmegaConf.load(job.folder / "config.yaml")
    assert isinstance(config, DictConfig)
    return config


def _ending(job: JobRecord, jobs: Sequence[JobRecord], say: Language) -> dict[str, str]:
    """Return a row's last cells: the time, the run that was reused where any job reused one, and the status."""
    row = {say("seconds"): f"{sum(job.series('time/epoch_seconds')):.1f}"}
    if any(other.reused for other in jobs):
        row[say("reused from")] = relative(job.reused) if job.reused else ""
    diverged = job.finished and not math.isfinite(job.figures.get("best/valid_loss", 0))
    return row | {say("status"): say("diverged") if diverged else job.status}


def _printed(prints: Mapping[str, Any]) -> str:
    """Return the training metric that the tutorial prints for a stage: its last, which shows how training went."""
    if not prints:
        return "-"
    value = prints[LAST_BATCH] if LAST_BATCH in prints else list(prints.values())[-1]
    return _losses(value if OmegaConf.is_list(value) else [value])


def _losses(values: Sequence[float]) -> str:
    return "  ".join(f"{value:.4f}" for value in values)


def _verdict(pair: Mapping[str, Any], say: Language) -> str:
    return say(pair["verdict"]) + (f" ({place(pair['where'], say)})" if pair["verdict"] == "differs" else "")
