"""Hydra's callback of the product: the check before anything is made, and the end of a sweep."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from experiments import answer, cli, live, ranks
from experiments.config import secrets
from experiments.config.hydra_internals import JobReturn, JobStatus, outcome
from experiments.errors import ConfigError, Fault, UserError
from experiments.parity.stage_sweep import judged
from experiments.runs.folder import keep_error, require_free
from experiments.sweeps import launchers, monitor, summary, sweep_answer
from experiments.tracking import client

log = logging.getLogger(__name__)

SWEEPERS = "hydra_plugins.experiments_sweeper."
SILENT = {"version": 1, "handlers": {"none": {"class": "logging.NullHandler"}}, "root": {"handlers": ["none"]}}
LOOSENED = "HYDRA_INSTANTIATE_ALLOWLIST_OVERRIDE"


class Hooks(Callback):
    """The product's Hydra callback; named in `conf/config.yaml`.

    In the process of a sweep of ours, the sweep sets `watch`, which reports failed jobs.
    """

    def __init__(self) -> None:
        self.watch: monitor.Watch | None = None
        self._returned: JobReturn | None = None  # by a sweep's last job in this process

    def __reduce__(self) -> tuple[type[Hooks], tuple[()]]:
        """Pickle without the sweep's watch, for a job in another process."""
        return Hooks, ()

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check a single run before Hydra makes its folder."""
        _warn_if_loosened()
        only_shown = OmegaConf.select(config, "sweep.preview") or OmegaConf.select(config, "describe")
        if not only_shown:
            client.warm_up(config)
        if ranks.follows():
            _leave_no_trace(config)
        # Late: they import torch, and the uploader should start before.
        with live.phase("loading"):
            from experiments.config import check
            from experiments.sweeps import preview

        try:
            checked = check.checked(config)
            if not ranks.follows():
                require_free(Path(config.hydra.run.dir))
            if only_shown:
                (preview.show_model if checked.root.describe else preview.show_run)(config, checked)
        except UserError as error:
            reject(error)
        except Exception:  # noqa: BLE001  # see below
            # Hydra would warn and continue; this is a bug in somebody's code, so all of it is shown.
            print(secrets.masked(traceback.format_exc()), file=sys.stderr)
            raise SystemExit(1) from None
        if only_shown:
            raise SystemExit(0)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Reject a sweep that cannot be run here; its jobs are checked in the sweeper."""
        try:
            if OmegaConf.select(config, "sweep.preview") and not _is_ours(config):
                problem = "another sweeper than ours would start its jobs; hydra/sweeper=experiments has a preview"
                raise ConfigError(Fault("sweep.preview", problem))
            if OmegaConf.select(config, "describe"):
                raise ConfigError(Fault("describe", "it shows the model of one run; give it without -m"))
            if ranks.world() > 1:
                problem = "torchrun trains one run with many processes; start the sweep without it, or each of its runs"
                raise ConfigError(Fault("hydra.mode", problem))
            launchers.require(config)
        except UserError as error:
            reject(error)
        _warn_if_loosened()

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Mask what Hydra has just written for this job and for the sweep, whatever the sweeper and launcher."""
        if self._returned is not None:  # Hydra keeps it to the sweep's end, and its configurations are most of it
            self._returned.cfg = self._returned.hydra_cfg = None
        secrets.learn(config)
        if ranks.follows():
            return
        hydra = config.hydra
        if hydra.mode == RunMode.MULTIRUN and self.watch is None:
            launchers.settle_in(config)
        elif "stack" in hydra.launcher and config.device.batched:
            launchers.label(config)
        kept = [*Path(hydra.runtime.output_dir, hydra.output_subdir or "").glob("*.yaml")]
        for path in [*kept, Path(hydra.sweep.dir, "multirun.yaml")]:
            secrets.mask_file(path)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Mask the overrides, which Hydra prints of a job that failed; in a sweep, report the failure."""
        job_return.overrides = secrets.masked_deep(job_return.overrides)
        error = outcome(job_return)
        single = config.hydra.mode == RunMode.RUN
        if isinstance(error, UserError) and (single or not ranks.speaks()):  # Hydra would print the overrides first
            reject(error)
        if config.hydra.mode == RunMode.MULTIRUN:
            self._returned = job_return
            job_return.working_dir = str(config.hydra.runtime.output_dir)  # for who launched it
            if self.watch is not None and job_return.status == JobStatus.COMPLETED:
                self.watch.tally.done(monitor.job_number(config), error)
            if job_return.status == JobStatus.FAILED:
                if not isinstance(error, monitor.NotRun):
                    self._report(config, job_return, error)
                job_return.return_value = launchers.portable(error)
                _clear_frames(outcome(job_return))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Finish a sweep of another sweeper; ours does so itself."""
        if not _is_ours(config):
            answer.give(partial(sweep_answer.of_sweep, Path(config.hydra.sweep.dir).resolve()))
            summary.finish(config, judged)

    def _report(self, config: DictConfig, job_return: JobReturn, error: BaseException) -> None:
        folder, sweep = Path(config.hydra.runtime.output_dir), Path(config.hydra.sweep.dir).resolve()
        keep_error(folder, error)
        number = monitor.job_number(config)
        message = monitor.failure_message(sweep, number, job_return.overrides or (), error, folder)
        monitor.note(sweep, number, secrets.masked(message))
        if self.watch is not None:
            self.watch.look_at_own()


def _is_ours(config: DictConfig) -> bool:
    return str(config.hydra.sweeper._target_).startswith(SWEEPERS)


def _leave_no_trace(config: DictConfig) -> None:
    """Have Hydra make no folder and no log in a process that follows the first one of its training."""
    with read_write(config), open_dict(config):
        config.hydra.run.dir, config.hydra.output_subdir = ".", None
        config.hydra.job_logging = SILENT


def _clear_frames(error: BaseException | None) -> None:
    """Free what the frames of a failed job hold, its model, data and workers: Hydra keeps the error to the end."""
    seen = set[int]()  # an error may be among its own causes: `raise error from error`
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _warn_if_loosened() -> None:
    if ranks.speaks() and os.environ.get(LOOSENED):
        log.warning(
            "%s is set: Hydra lets configuration call what it refuses otherwise, functions that remove files for one; "
            "nothing here needs it",
            LOOSENED,
        )


def reject(error: UserError) -> NoReturn:
    """End the process with one message; Hydra turns any other exception of a callback into a warning."""
    raise SystemExit(cli.report(error)) from error
