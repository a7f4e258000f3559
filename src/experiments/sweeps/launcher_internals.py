"""The parts of the launchers' packages that these do not promise: which are installed, and how each gives up.

Read from hydra-joblib-launcher 1.2.0, hydra-submitit-launcher 1.2.0 with submitit 1.5.4, and hydra-ray-launcher 1.2.2
with Ray 2.60.0. They are extras, imported only where they run the jobs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.config.hydra_internals import JobReturn, JobStatus
from experiments.errors import TrainingError, first_line

# By the plugin's package: the extra that installs it, and the library that it imports when it is used.
EXTRAS = {
    "hydra_joblib_launcher": ("joblib", "joblib"),
    "hydra_submitit_launcher": ("slurm", "submitit"),
    "hydra_ray_launcher": ("ray", "ray"),
    "optuna": ("optuna", "optuna"),
}


def package(launcher: DictConfig) -> str:
    """Return the plugin's package of a configured launcher."""
    return str(launcher.get("_target_", "")).removeprefix("hydra_plugins.").split(".")[0]


def missing_extra(plugin: str) -> str | None:
    """Return the extra that a plugin needs and that is not installed; None where nothing is missing."""
    if plugin not in EXTRAS:
        return None
    extra, library = EXTRAS[plugin]
    parts = {library, f"hydra_plugins.{plugin}" if plugin.startswith("hydra_") else plugin}
    return extra if any(find_spec(part) is None for part in parts) else None


def why_gave_up(error: Exception, launcher: DictConfig) -> str | None:
    """Return why a launcher raised an error of its own; None for any other error."""
    if isinstance(error, multiprocessing.TimeoutError):  # joblib's, without a message
        return f"a job took longer than hydra.launcher.timeout={launcher.get('timeout')} seconds"
    if isinstance(error.__cause__, subprocess.CalledProcessError):  # submitit's, of a command of Slurm
        return f"{Path(error.__cause__.cmd[0]).name} refused the jobs: {first_line(str(error))}"
    return _gone(error) if type(error).__module__.split(".")[0] in ("joblib", "submitit", "ray") else None


@contextlib.contextmanager
def waiting_for_all(plugin: str) -> Iterator[None]:
    """Have a killed job be a failed one to the launchers that give up at the first and leave the others alone."""
    owner: Any
    gone: tuple[type[Exception], ...]
    if plugin == "hydra_submitit_launcher":
        from submitit.core.core import Job
        from submitit.core.utils import FailedJobError, UncompletedJobError

        owner, name, gone = Job, "results", (FailedJobError, UncompletedJobError)
    elif plugin == "hydra_ray_launcher":
        import ray
        from ray.exceptions import RayError

        owner, name, gone = ray, "get", (RayError,)
    else:
        yield
        return
    original = getattr(owner, name)

    def ask(job: Any, **options: Any) -> Any:
        try:
            return original(job, **options)
        except gone as error:
            failed = JobReturn(status=JobStatus.FAILED, _return_value=TrainingError(_gone(error)))
            return [failed] if name == "results" else failed  # submitit's, one for each process of a job

    with _replaced(owner, name, ask):
        yield


@contextlib.contextmanager
def waiting_for_none() -> Iterator[list[str]]:
    """Have submitit's launcher return once its jobs are queued; yield their ids."""
    from submitit.core.core import Job

    ids = list[str]()

    def leave(job: Any) -> list[JobReturn]:
        ids.append(job.job_id)
        return [JobReturn()]

    with _replaced(Job, "results", leave):
        yield ids


@contextlib.contextmanager
def _replaced(owner: Any, name: str, function: Any) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _gone(error: Exception) -> str:
    """Return the first sentence of an error about a lost job or worker, which may have pages."""
    said = first_line(str(error)).split(". ")[0]
    return f"its process is gone ({type(error).__name__}: {said.strip()})"
