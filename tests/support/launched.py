"""A small sweep of a few jobs through any launcher, some of them disturbed; and what it came to, folder and store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Run

from experiments.config import discovery
from experiments.tracking import journal
from tests.support import raw_journal
from tests.support.commands import SMALL
from tests.support.tracked import runs, store_of

JOBS = 5
# Kept in step with SMALL but for tracking, which it is about.
SETTINGS = (
    *(setting for setting in SMALL if not setting.startswith(("tracking=", "checkpoint."))),
    *("tracking=mlflow", "device.threads=1", "callbacks=disturbed", "hydra.sweep.dir=sweep"),
)
SWEPT = f"optim.lr={','.join(f'0.{number:02}' for number in range(1, JOBS + 1))}"
RAISES, KILLED = 1, 3
# What happens stands in no configuration, so that the same training goes on once it is over.
DISTURBED = f'''
import os
import signal

import experiments
from experiments.training.callback import Callback


@experiments.register.callback("disturbed")
class Disturbed(Callback):
    def on_epoch_end(self, runner, epoch, figures):
        if epoch != 1 or not os.path.exists("disturb"):
            return
        if runner.folder.name == "{RAISES}":
            raise RuntimeError("out of luck")
        if runner.folder.name == "{KILLED}":
            os.kill(os.getpid(), signal.SIGKILL)
'''


@dataclass(frozen=True)
class Place:
    """A folder to work in, with the component that disturbs.

    Args:
        folder: where.
        around: the words that a command there begins with, to put it into a network of its own for one.
        env: more variables.
    """

    folder: Path
    around: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "disturbed.py").write_text(DISTURBED)

    def start(self, *arguments: str, module: str = "experiments") -> subprocess.Popen[str]:
        own = {discovery.SETTING: "disturbed.py", "RAY_USAGE_STATS_ENABLED": "0"}
        return subprocess.Popen(
            [*self.around, sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=os.environ | own | self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def call(self, *arguments: str, module: str = "experiments") -> tuple[int, str]:
        """Its exit code, and all that it said."""
        started = self.start(*arguments, module=module)
        said, _ = started.communicate(timeout=600)
        return started.returncode, said

    def sweep(self, *options: str) -> tuple[int, str]:
        return self.call("-m", *SETTINGS, SWEPT, *options)

    def resume(self) -> tuple[int, str]:
        return self.call("sweep", module="experiments.resume")

    def job(self, number: int) -> Path:
        return self.folder / "sweep" / str(number)

    @property
    def jobs(self) -> list[Path]:
        return [self.job(number) for number in range(JOBS)]

    def states(self) -> list[str]:
        """How each job's run ended, by its journal; missing where there is none."""
        return [
            str(raw_journal.summary(job)["status"]) if (job / journal.FILE).is_file() else "missing"
            for job in self.jobs
        ]

    def stored(self) -> tuple[list[Run], list[Run]]:
        """The sweep's parent runs and all others, as MLflow has them."""
        found = runs(store_of(self.folder))
        parents = [run for run in found if run.data.tags.get("experiments.sweep")]
        return parents, [run for run in found if run not in parents]
