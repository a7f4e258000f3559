"""What a sweep's launcher needs from us: its extra, how many threads a job has, and a job's place in another process.

The launchers are Hydra's (joblib, submitit, Ray), chosen with `hydra/launcher=...`; their presets are in
`conf/hydra/launcher/`. The core needs none of them.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, read_write

from experiments import cli
from experiments.config import discovery, secrets
from experiments.config.compose import quoted
from experiments.errors import ConfigError, Fault, TrainingError
from experiments.runs import cpu_contention, sweep_plan
from experiments.runs.terminal import relative

# By the launcher's package: the extra that brings it, and what it imports when it is used.
EXTRAS = {
    "hydra_joblib_launcher": ("joblib", "joblib"),
    "hydra_submitit_launcher": ("slurm", "submitit"),
    "hydra_ray_launcher": ("ray", "ray"),
}
THREADS = "device.threads"

_sweeping: list[int] = []  # the process that has handed its jobs to a launcher; empty in those that the launcher starts


def require(config: DictConfig) -> None:
    """See that the chosen launcher is installed.

    Raises:
        ConfigError: it is not, or this is no machine for it.
    """
    choice = config.hydra.runtime.choices.get("hydra/launcher")
    package = _package(config.hydra.launcher)
    if package not in EXTRAS:
        return
    extra, library = EXTRAS[package]
    if find_spec(library) is None or find_spec(f"hydra_plugins.{package}") is None:
        problem = f"it comes with an extra, which is not installed: pip install 'experiments[{extra}]'"
        raise ConfigError(Fault(f"hydra/launcher={choice}", problem))
    if config.hydra.launcher._target_.endswith(".SlurmLauncher") and not (
        which("srun") or OmegaConf.select(config, "sweep.preview")
    ):
        problem = (
            "there is no srun here; it is for a machine of a Slurm cluster (hydra/launcher=submitit_local tries it)"
        )
        raise ConfigError(Fault(f"hydra/launcher={choice}", problem))


def with_job_settings(config: DictConfig, arguments: Sequence[str]) -> list[str]:
    """A sweep's overrides, so that a job comes to the same wherever its launcher puts it.

    The threads are part of what determines a result, so that they are decided once, by what the launcher gives a job,
    and not by whatever machine it meets. The sweep's folder is named in full, for a worker that works in another.

    Raises:
        ConfigError: what the launcher gives a job is no number.
    """
    _sweeping[:] = [os.getpid()]
    folder = quoted(str(Path(config.hydra.sweep.dir).resolve()))
    with read_write(config):
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir={folder}")
    of_file = config.hydra.sweeper.get("params") or ()  # swept over as well, by an experiment's file
    given = [argument.lstrip("+").split("=")[0] for argument in (*arguments, *of_file)]
    threads = _threads(config.hydra.launcher)
    if threads is None or THREADS in given or config.device.threads is not None:
        return list(arguments)
    return [*arguments, f"{THREADS}={threads}"]


def settle_in(config: DictConfig) -> None:
    """In a process that a launcher has started for jobs: work where the sweep was begun, and tell which job speaks."""
    if _sweeping == [os.getpid()]:  # the sweep's own process
        return
    secrets.mask_process()
    cli.collect_rarely()
    place = sweep_plan.read(Path(config.hydra.sweep.dir)).place
    if place.folder and Path(place.folder).is_dir():
        os.chdir(place.folder)
        if place.components:
            os.environ.setdefault(discovery.SETTING, place.components)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr):
            handler.setFormatter(logging.Formatter(f"[{config.hydra.job.num}] %(message)s"))


def require_shared(sweep: Path, sweeper: Mapping[str, Any]) -> None:
    """See that a job finds the folder that its sweep was begun in.

    Raises:
        ConfigError: it does not, on a machine that does not share it.
    """
    ours = "experiments_sweeper" in str(sweeper.get("_target_"))
    if ours and not (sweep / sweep_plan.PLAN).is_file():
        problem = f"{sweep} is not what it is where the sweep was begun; all machines have to share that folder"
        raise ConfigError(Fault("hydra.sweep.dir", problem))


def portable(error: Any) -> Any:
    """What a job returns or raises, such that the process that launched it can read it."""
    try:
        copy.deepcopy(error)  # makes it again as pickle does
    except Exception:  # noqa: BLE001  # whatever its class does when it is made again
        return TrainingError(f"{type(error).__name__}: {error}")
    return error


@contextlib.contextmanager
def tolerate_failures(sweep: Path, launcher: DictConfig) -> Iterator[None]:
    """Have a launcher wait for all jobs, those that were killed being failed ones; tell in a line where it gives up.

    Raises:
        TrainingError: it gave up, and lost the jobs that were not done.
    """
    try:
        with _waiting_for_all(_package(launcher)):
            yield
    except Exception as error:
        if isinstance(error, multiprocessing.TimeoutError):  # joblib's, which says nothing
            why = f"a job took longer than hydra.launcher.timeout={launcher.get('timeout')} seconds"
        elif type(error).__module__.split(".")[0] in ("joblib", "submitit", "ray"):
            why = _first_line(error)
        else:
            raise
        again = f"python -m experiments.resume {relative(sweep)}"
        raise TrainingError(f"{why}; what did not finish is run by {again}") from error


@contextlib.contextmanager
def _waiting_for_all(package: str) -> Iterator[None]:
    """Have a killed job be a failed one to the launchers that give up at the first and leave the others alone."""
    owner: Any
    gone: tuple[type[Exception], ...]
    if package == "hydra_submitit_launcher":
        from submitit.core.core import Job
        from submitit.core.utils import FailedJobError, UncompletedJobError

        owner, name, gone = Job, "results", (FailedJobError, UncompletedJobError)
    elif package == "hydra_ray_launcher":
        import ray
        from ray.exceptions import RayError

        owner, name, gone = ray, "get", (RayError,)
    else:
        yield
        return
    asked = getattr(owner, name)

    def ask(job: Any, **options: Any) -> Any:
        try:
            return asked(job, **options)
        except gone as error:
            failed = JobReturn(status=JobStatus.FAILED, _return_value=TrainingError(_first_line(error)))
            return [failed] if name == "results" else failed  # submitit's, one for each process of a job

    setattr(owner, name, ask)
    try:
        yield
    finally:
        setattr(owner, name, asked)


def _first_line(error: Exception) -> str:
    """What a launcher says of a job or a worker that is gone, which goes on for pages."""
    said = (str(error).strip().splitlines() or [""])[0].split(". ")[0]
    return f"its process is gone ({type(error).__name__}: {said.strip()})"


def _package(launcher: DictConfig) -> str:
    return str(launcher.get("_target_", "")).removeprefix("hydra_plugins.").split(".")[0]


def _threads(launcher: DictConfig) -> int | None:
    """What a launcher gives each job; None for one that runs them one after the other, on all cores."""
    if "n_jobs" in launcher:
        cores, at_once = cpu_contention.cores(), int(_number(launcher, "n_jobs"))
        if at_once < 0:  # as joblib counts: -1 is all cores, -2 all but one
            at_once = cores + 1 + at_once
        return max(1, cores // max(1, at_once))
    if launcher.get("cpus_per_task") is not None:
        return int(_number(launcher, "cpus_per_task"))
    if "ray" in launcher:
        asked = launcher.ray.remote.get("num_cpus")
        return max(1, int(_number(launcher, "ray.remote.num_cpus", float))) if asked else 1
    return None


def _number(launcher: DictConfig, key: str, kind: type[float] = int) -> float:
    """A number that a launcher is given, whose own code would fail at another.

    Raises:
        ConfigError: it is none of that kind, or 0.
    """
    given = OmegaConf.select(launcher, key)
    if not isinstance(given, int | kind) or given == 0:
        expected = "a whole number other than 0" if kind is int else "a number"
        raise ConfigError(Fault(f"hydra.launcher.{key}", f"{given!r} is given; it should be {expected}"))
    return given
