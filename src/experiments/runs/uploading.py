"""The upload of a run to MLflow, as its training sees it: start it, and wait for it at the end."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from experiments.config.language import Language
from experiments.config.root import RootConfig
from experiments.config.store_uri import store_uri
from experiments.runs import terminal
from experiments.runs.metadata import Job
from experiments.tracking import client, delivered, record, system_metrics
from experiments.tracking.ownership import is_held_elsewhere
from experiments.training.result import Result

log = logging.getLogger(__name__)


def follow(root: RootConfig, job: Job) -> client.Followed | None:
    """Return who uploads a run, once the uploader knows of it; None for a run that is not tracked."""
    if root.tracking.name == "none":
        return None
    if job.sweep is not None and is_held_elsewhere(job.sweep):  # by the sweep's process, which uploads all jobs
        followed = client.Followed(record.start_of(job.folder).store or "", Path(root.output_root).resolve())
        followed.follow(job.folder)
        return followed
    uploader = client.uploader(root.tracking, root.output_root)
    uploader.follow(job.folder)
    if system_metrics.enabled(root.tracking.system_metrics) and torch.cuda.is_available():
        system_metrics.warn_of_missing_cards()
    return uploader


def arrive(root: RootConfig, job: Job, uploader: client.Followed | None, result: Result) -> None:
    """Wait for the upload to MLflow; a sweep's jobs do not wait, the sweep does at its end."""
    if uploader is None:
        if root.figures:
            from experiments.tracking.figures import draw

            draw(job.folder)
        return
    if job.sweep is None:
        # If the uploader was killed, another one continues.
        if not (isinstance(uploader, client.UploaderProcess) and uploader.alive):
            uploader = client.uploader(root.tracking, root.output_root)
            uploader.follow(job.folder)
        missing = uploader.wait([job.folder], root.tracking.wait_seconds)
        result.run_id = delivered.state(job.folder).run_id or None
        terminal.arrived(store_uri(root.tracking.uri), [job.folder], missing)
        if root.figures and not missing and not delivered.state(job.folder).complete:
            say, plots = Language(root.language), terminal.relative(job.folder / "figures")
            log.info("%s", say("plots   {folder}, in a few seconds", folder=plots))
