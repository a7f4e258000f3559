"""`hydra.launcher.detach=true`: a sweep's jobs are left in Slurm's queue, and `resume` of the sweep collects them."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.config.hydra_internals import JobReturn
from experiments.errors import ConfigError, Fault, command
from experiments.runs.terminal import relative
from experiments.sweeps.launcher_internals import waiting_for_none
from experiments.tracking import client, journal
from experiments.tracking.record import PAUSED

log = logging.getLogger(__name__)

FILE = "queued.json"  # in the sweep's folder: Slurm's ids of its jobs, by their numbers


def detaches(config: DictConfig, launcher: Any, *, known: bool) -> bool:
    """Return whether the command leaves its jobs alone; submitit's launcher, which does not know it, loses the setting.

    Raises:
        ConfigError: it is neither true nor false, or the jobs of a search are meant.
    """
    given = getattr(launcher, "params", {}).pop("detach", False)
    if not isinstance(given, bool):
        raise ConfigError(Fault("hydra.launcher.detach", f"{given!r} is given; it should be true or false"))
    if given and not known:
        raise ConfigError(Fault("hydra.launcher.detach", "a search chooses its trials by the results of earlier ones"))
    return given and not OmegaConf.select(config, "sweep.resume")


def left(leaves: bool) -> contextlib.AbstractContextManager[list[str]]:
    """Have the launcher leave its jobs in the queue, or not; the ids of those that it left are what it yields."""
    return waiting_for_none() if leaves else contextlib.nullcontext([])


def leave(config: DictConfig, sweep: Path, ids: Sequence[str]) -> None:
    """Keep the ids of queued jobs, end the sweep for now, and say how it goes on."""
    (sweep / FILE).write_text(json.dumps(list(ids)), encoding="utf-8")
    again = f"{command('resume')} {relative(sweep)}"
    journal.end(sweep, PAUSED, f"{len(ids)} jobs are in Slurm's queue; {again}")
    if config.tracking.name != "none":
        uploader = client.uploader(config.tracking, config.output_root)
        uploader.follow(sweep)
        uploader.wait([sweep], config.tracking.wait_seconds)
    log.info("queued  %d jobs (squeue --me lists them)", len(ids))
    log.info("to wait for them and see the table: %s", again)


class Collecting:
    """In place of a launcher: waits for jobs that are in the queue already.

    Args:
        sweep: the sweep's folder.
        launcher: submitit's, which queued them.
    """

    def __init__(self, sweep: Path, launcher: Any) -> None:
        self.file, self.folder = sweep / FILE, launcher.params["submitit_folder"]

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Return what the jobs returned; once all of them have ended, the sweep is as any other."""
        from submitit import SlurmJob

        ids = json.loads(self.file.read_text(encoding="utf-8"))
        wanted = ids[initial_job_idx : initial_job_idx + len(job_overrides)]
        queue: list[SlurmJob[JobReturn]] = [SlurmJob(self.folder, one) for one in wanted]
        returned = [job.results()[0] for job in queue]
        if initial_job_idx + len(wanted) == len(ids):
            self.file.unlink()
        return returned
