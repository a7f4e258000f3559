"""Where Hydra lets the product in: before anything is made, and after a sweep's last job."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from experiments import ranks
from experiments.errors import ConfigError, Fault, TrainingError, UserError
from experiments.folders import require_free
from experiments.tracking import process

log = logging.getLogger(__name__)

REJECTED = 2  # the exit code of a command that cannot be run
SILENT = {"version": 1, "handlers": {"none": {"class": "logging.NullHandler"}}, "root": {"handlers": ["none"]}}
LOOSENED = "HYDRA_INSTANTIATE_ALLOWLIST_OVERRIDE"


class Hooks(Callback):
    """The product's Hydra callback; named in `conf/config.yaml`."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check a single run before Hydra makes its folder."""
        _warn_if_loosened()
        process.warm_up(config)
        if ranks.follows():
            _leave_no_trace(config)
        from experiments import composing, secrets
        from experiments import config as configuration

        secrets.learn(config)

        try:
            composing.require_single(config.hydra)
            configuration.check(configuration.resolve(config))
            if not ranks.follows():
                require_free(Path(config.hydra.run.dir))
        except UserError as error:
            reject(error)
        except Exception:  # noqa: BLE001  # see below
            # Hydra would warn and go on; this is a fault in somebody's code, so all of it is shown.
            print(secrets.masked(traceback.format_exc()), file=sys.stderr)
            raise SystemExit(1) from None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:  # noqa: ARG002  # as Hydra calls it
        """Say what a user should know before a sweep; it is checked in the sweeper."""
        if ranks.world() > 1:
            problem = "torchrun trains one run with many processes; start the sweep without it, or its runs one by one"
            reject(ConfigError(Fault("hydra.mode", problem)))
        _warn_if_loosened()

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Mask what Hydra has just written for this job and for the sweep, whatever the sweeper and launcher."""
        from experiments import secrets

        secrets.learn(config)
        if ranks.follows():
            return
        hydra = config.hydra
        kept = [*Path(hydra.runtime.output_dir, hydra.output_subdir or "").glob("*.yaml")]
        for path in [*kept, Path(hydra.sweep.dir, "multirun.yaml")]:
            secrets.mask_file(path)

    def on_job_end(self, config: DictConfig, job_return: Any, **_: Any) -> None:  # noqa: ARG002  # as Hydra calls it
        """Mask the overrides, which Hydra prints of a job that failed."""
        from experiments import secrets

        job_return.overrides = secrets.masked_deep(job_return.overrides)
        error = job_return._return_value
        if isinstance(error, UserError) and not ranks.speaks():  # the first process tells; here Hydra would
            raise SystemExit(1 if isinstance(error, TrainingError) else REJECTED)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """End the sweep's parent run and show the table of its jobs."""
        from experiments.sweeps import summary

        summary.finish(config)


def _leave_no_trace(config: DictConfig) -> None:
    """Have Hydra make no folder and no log in a process that follows the first one of its training."""
    with read_write(config), open_dict(config):
        config.hydra.run.dir, config.hydra.output_subdir = ".", None
        config.hydra.job_logging = SILENT


def _warn_if_loosened() -> None:
    if ranks.speaks() and os.environ.get(LOOSENED):
        log.warning(
            "%s is set: Hydra lets configuration call what it refuses otherwise, files being removed for one; "
            "nothing here needs it",
            LOOSENED,
        )


def reject(error: UserError) -> NoReturn:
    """End the process with one message; Hydra turns any other exception of a callback into a warning."""
    from experiments.secrets import masked

    if ranks.speaks():
        print(f"error: {masked(str(error))}", file=sys.stderr)
    raise SystemExit(REJECTED)
