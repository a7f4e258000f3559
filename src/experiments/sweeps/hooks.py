"""Where Hydra lets the product in: before anything is made, and after a sweep's last job."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from experiments.errors import UserError
from experiments.folders import require_free
from experiments.tracking import process

REJECTED = 2  # the exit code of a command that cannot be run


class Hooks(Callback):
    """The product's Hydra callback; named in `conf/config.yaml`."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check a single run before Hydra makes its folder."""
        process.warm_up(config)
        from experiments import config as configuration
        from experiments import secrets

        secrets.learn(config)

        try:
            configuration.check(configuration.resolve(config))
            require_free(Path(config.hydra.run.dir))
        except UserError as error:
            reject(error)
        except Exception:  # noqa: BLE001  # see below
            # Hydra would warn and go on; this is a fault in somebody's code, so all of it is shown.
            print(secrets.masked(traceback.format_exc()), file=sys.stderr)
            raise SystemExit(1) from None

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """End the sweep's parent run and show the table of its jobs."""
        from experiments.sweeps import summary

        summary.finish(config)


def reject(error: UserError) -> NoReturn:
    """End the process with one message; Hydra turns any other exception of a callback into a warning."""
    from experiments.secrets import masked

    print(f"error: {masked(str(error))}", file=sys.stderr)
    raise SystemExit(REJECTED)
