"""`hydra/launcher=batched`: jobs that differ in numbers alone are trained as one, each a run of its own.

Each job runs in this process as Hydra's basic launcher runs it, up to its steps, which a stack takes for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict


class BatchedLauncher(Launcher):
    """Trains jobs together that may be, and the others one after the other.

    Args:
        stack: how many models there are in a stack at most; "auto": as many as the memory holds, 64 at most.
    """

    together = True  # jobs of one call are in this process at once

    def __init__(self, stack: int | str = "auto") -> None:
        self.stack = stack

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives a launcher."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run jobs, and return what they returned in their order."""
        from experiments.config import check
        from hydra_plugins.experiments_batched import _plan
        from hydra_plugins.experiments_batched._crew import Crew
        from hydra_plugins.experiments_batched._member import layout

        setup_globals()
        self._log()
        sweep = Path(str(self.config.hydra.sweep.dir))
        sweep.mkdir(parents=True, exist_ok=True)
        composed = [self._composed(one, initial_job_idx + place) for place, one in enumerate(job_overrides)]
        configs = {str(config.hydra.sweep.subdir): config for config in composed}
        roots = {name: check.checked(config).root for name, config in configs.items()}
        returned = dict[str, JobReturn]()
        for group in _plan.planned(sweep, roots, self.stack):
            for placed in group.stacks():
                names = list(placed.values())
                _plan.tell(names, group)
                jobs = {slot: partial(self._run, configs[name], group.batched) for slot, name in placed.items()}
                if group.batched:
                    done = Crew(roots[names[0]], layout(group.batched)).run(jobs)
                else:
                    done = [job() for job in jobs.values()]
                returned |= dict(zip(names, done, strict=True))
                self._log()
        return [returned[name] for name in configs]

    def _composed(self, overrides: Sequence[str], number: int) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config

    def _run(self, config: DictConfig, batched: str) -> JobReturn:
        """Run a job as one of a stack of this layout; empty for one of its own."""
        with open_dict(config):
            if batched:
                config.device.batched = batched
                config.hydra.overrides.task.append(f"device.batched={batched}")
        return run_job(
            hydra_context=self.hydra_context,
            config=config,
            task_function=self.task_function,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )

    def _log(self) -> None:
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)


# Not a dataclass: Hydra executes this file outside of `sys.modules`.
SETTINGS: dict[str, Any] = {"_target_": "hydra_plugins.experiments_batched.BatchedLauncher", "stack": "auto"}
ConfigStore.instance().store(group="hydra/launcher", name="batched", node=SETTINGS, provider="experiments")
