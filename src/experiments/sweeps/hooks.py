"""Where Hydra lets the product in: before anything is made, and after a sweep's last job."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from experiments import ranks
from experiments.config import secrets
from experiments.errors import ConfigError, Fault, TrainingError, UserError
from experiments.runs.folder import require_free
from experiments.tracking import client

if TYPE_CHECKING:
    from experiments.config.check import Checked

log = logging.getLogger(__name__)

SWEEPERS = "hydra_plugins.experiments_sweeper."
REJECTED = 2  # the exit code of a command that cannot be run
SILENT = {"version": 1, "handlers": {"none": {"class": "logging.NullHandler"}}, "root": {"handlers": ["none"]}}
LOOSENED = "HYDRA_INSTANTIATE_ALLOWLIST_OVERRIDE"


class Hooks(Callback):
    """The product's Hydra callback; named in `conf/config.yaml`."""

    def __init__(self) -> None:
        self._returned: JobReturn | None = None  # by a sweep's last job in this process

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check a single run before Hydra makes its folder."""
        _warn_if_loosened()
        only_shown = OmegaConf.select(config, "sweep.preview")
        if not only_shown:
            client.warm_up(config)
        if ranks.follows():
            _leave_no_trace(config)
        # Late: it takes torch, and the uploader should have started before.
        from experiments.config import check

        try:
            checked = check.checked(config)
            if not ranks.follows():
                require_free(Path(config.hydra.run.dir))
            if only_shown:
                _show(config, checked)
        except UserError as error:
            reject(error)
        except Exception:  # noqa: BLE001  # see below
            # Hydra would warn and go on; this is a fault in somebody's code, so all of it is shown.
            print(secrets.masked(traceback.format_exc()), file=sys.stderr)
            raise SystemExit(1) from None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Say what a user should know before a sweep; it is checked in the sweeper."""
        if OmegaConf.select(config, "sweep.preview") and not str(config.hydra.sweeper._target_).startswith(SWEEPERS):
            problem = "another sweeper than ours would start its jobs; hydra/sweeper=experiments knows of a preview"
            reject(ConfigError(Fault("sweep.preview", problem)))
        if ranks.world() > 1:
            problem = "torchrun trains one run with many processes; start the sweep without it, or its runs one by one"
            reject(ConfigError(Fault("hydra.mode", problem)))
        from experiments.sweeps import launchers

        try:
            launchers.require(config)
        except UserError as error:
            reject(error)
        _warn_if_loosened()

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Mask what Hydra has just written for this job and for the sweep, whatever the sweeper and launcher."""
        from experiments.config import secrets

        if self._returned is not None:  # Hydra keeps it to the sweep's end, and its configurations are most of it
            self._returned.cfg = self._returned.hydra_cfg = None
        secrets.learn(config)
        if ranks.follows():
            return
        hydra = config.hydra
        if hydra.mode == RunMode.MULTIRUN:
            from experiments.sweeps import launchers

            launchers.settle_in(config)
        kept = [*Path(hydra.runtime.output_dir, hydra.output_subdir or "").glob("*.yaml")]
        for path in [*kept, Path(hydra.sweep.dir, "multirun.yaml")]:
            secrets.mask_file(path)

    def on_job_end(self, config: DictConfig, job_return: Any, **_: Any) -> None:
        """Mask the overrides, which Hydra prints of a job that failed; and of a sweep's, leave word of the failure."""
        from experiments.config import secrets

        job_return.overrides = secrets.masked_deep(job_return.overrides)
        error = job_return._return_value
        if isinstance(error, UserError) and not ranks.speaks():  # the first process tells; here Hydra would
            raise SystemExit(1 if isinstance(error, TrainingError) else REJECTED)
        if config.hydra.mode == RunMode.MULTIRUN:
            self._returned = job_return
            if job_return.status == JobStatus.FAILED:
                _tell_failure(config, job_return)
                from experiments.sweeps import launchers

                job_return.return_value = launchers.portable(job_return._return_value)
                _let_go(job_return._return_value)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """End the parent run of another sweeper's sweep and show the table of its jobs; ours does so itself."""
        from experiments.parity.stage_sweep import judged
        from experiments.sweeps import summary

        if not str(config.hydra.sweeper._target_).startswith(SWEEPERS):
            summary.finish(config, judged)


def _show(config: DictConfig, checked: Checked) -> NoReturn:
    """Show what a single run would do, and end."""
    from experiments.sweeps.jobs import ComposedJob
    from experiments.sweeps.preview import Preview

    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    if not ranks.follows():
        folder = Path(config.hydra.run.dir)
        preview = Preview(folder.parent, checked.root.output_root, ())
        preview.add(ComposedJob(0, folder.name, {}, checked))
        preview.show()
    raise SystemExit(0)


def _leave_no_trace(config: DictConfig) -> None:
    """Have Hydra make no folder and no log in a process that follows the first one of its training."""
    with read_write(config), open_dict(config):
        config.hydra.run.dir, config.hydra.output_subdir = ".", None
        config.hydra.job_logging = SILENT


def _tell_failure(config: DictConfig, job_return: JobReturn) -> None:
    from experiments.config.secrets import masked
    from experiments.runs.folder import keep_error
    from experiments.sweeps import monitor

    error = job_return._return_value  # Hydra's property would raise it
    if isinstance(error, monitor.NotRun):
        return
    folder, sweep = Path(config.hydra.runtime.output_dir), Path(config.hydra.sweep.dir).resolve()
    keep_error(folder, error)
    number = int(config.hydra.job.num)
    monitor.note(
        sweep, number, masked(monitor.failure_message(sweep, number, job_return.overrides or (), error, folder))
    )


def _let_go(error: BaseException | None) -> None:
    """Free what the frames of a failed job hold, its model, data and workers, for Hydra keeps the error to the end."""
    seen = set[int]()  # an error may be among its own causes: `raise error from error`
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _warn_if_loosened() -> None:
    if ranks.speaks() and os.environ.get(LOOSENED):
        log.warning(
            "%s is set: Hydra lets configuration call what it refuses otherwise, files being removed for one; "
            "nothing here needs it",
            LOOSENED,
        )


def reject(error: UserError) -> NoReturn:
    """End the process with one message; Hydra turns any other exception of a callback into a warning."""
    from experiments.config.secrets import masked

    if ranks.speaks():
        print(f"error: {masked(str(error))}", file=sys.stderr)
    raise SystemExit(REJECTED)
