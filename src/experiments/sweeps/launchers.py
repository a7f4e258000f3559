"""Launchers of a sweep's jobs: their extras, the threads of a job, and a job's place in another process.

They are Hydra's plugins (joblib, submitit, Ray), chosen with `hydra/launcher=...`; their presets are in
`conf/hydra/launcher/`. The core does not need them.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import which
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write

from experiments import cli, live
from experiments.config import discovery, secrets
from experiments.config.overrides import quoted
from experiments.errors import ConfigError, Fault, TrainingError, command
from experiments.runs import cpu_contention, sweep_plan
from experiments.runs.terminal import relative
from experiments.sweeps.launcher_internals import missing_extra, package, waiting_for_all, why_gave_up
from experiments.sweeps.monitor import job_number

THREADS = "device.threads"
STACKED = 16  # trials of a search that are chosen together, to be trained together


def require(config: DictConfig) -> None:
    """Check that the chosen launcher and sweeper are installed.

    Raises:
        ConfigError: one is not, or the launcher needs a Slurm cluster.
    """
    searches = str(config.hydra.sweeper._target_).endswith(".CheckedSearch")
    plugins = {"launcher": package(config.hydra.launcher), "sweeper": "optuna" if searches else ""}
    choices = {group: f"hydra/{group}={config.hydra.runtime.choices.get(f'hydra/{group}')}" for group in plugins}
    for group, plugin in plugins.items():
        if extra := missing_extra(plugin):
            problem = f"it comes with an extra, which is not installed: pip install 'experiments[{extra}]'"
            raise ConfigError(Fault(choices[group], problem))
    if "per_card" in config.hydra.launcher:
        _slots(config.hydra.launcher, config.device.name)
    if "stack" in config.hydra.launcher:
        _stack(config.hydra.launcher)
    needs_slurm = config.hydra.launcher._target_.endswith(".SlurmLauncher")
    if needs_slurm and not which("srun") and not OmegaConf.select(config, "sweep.preview"):
        problem = "srun not found; this launcher needs a Slurm cluster (hydra/launcher=submitit_local tries it)"
        raise ConfigError(Fault(choices["launcher"], problem))


def with_job_settings(config: DictConfig, arguments: Sequence[str]) -> list[str]:
    """Return a sweep's overrides, such that a job has the same result wherever its launcher puts it.

    The threads determine a result, so that they are decided once, by what the launcher gives a job, and not by the
    machine of the job. The sweep's folder is made absolute, for a worker in another directory.

    Raises:
        ConfigError: a setting of the launcher is not a number.
    """
    folder = quoted(str(Path(config.hydra.sweep.dir).resolve()))
    with read_write(config):
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir={folder}")
    of_file = config.hydra.sweeper.get("params") or ()  # swept over as well, by an experiment's file
    given = [argument.lstrip("+").split("=")[0] for argument in (*arguments, *of_file)]
    launcher = config.hydra.launcher
    threads, at_once = _threads(launcher, config.device.name), _at_once(launcher, config.device.name)
    if "n_jobs" in config.hydra.sweeper and config.hydra.sweeper.n_jobs is None:
        # Slots take trials one by one, and with as many again none waits for the slowest.
        at_once = 2 * at_once if "per_card" in launcher else at_once
        with read_write(config):
            config.hydra.sweeper.n_jobs = at_once
            config.hydra.overrides.hydra.append(f"hydra.sweeper.n_jobs={at_once}")
    if threads is None or THREADS in given or config.device.threads is not None:
        return list(arguments)
    return [*arguments, f"{THREADS}={threads}"]


def close(launcher: Any) -> None:
    """End a launcher's own processes, where it has any."""
    if hasattr(launcher, "close"):
        launcher.close()


def settle_in(config: DictConfig) -> None:
    """In a process that a launcher started: change to the sweep's directory, and prefix the log with the job."""
    erase = live.turn_off()  # the sweep's process draws
    secrets.mask_process()
    cli.collect_rarely()
    cli.outlive_readers()
    place = sweep_plan.read(Path(config.hydra.sweep.dir)).place
    if place.folder and Path(place.folder).is_dir():
        os.chdir(place.folder)
        if place.components:
            os.environ.setdefault(discovery.SETTING, place.components)
    label(config, erase)


def label(config: DictConfig, before: str = "") -> None:
    """Begin each line that a job logs on the terminal with its number."""
    for handler in logging.getLogger().handlers:
        ours = isinstance(handler, live.LogHandler)  # its stream may be one that the live lines have replaced
        if ours or (isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)):
            handler.setFormatter(logging.Formatter(f"{before}[{job_number(config)}] %(message)s"))


def require_shared(sweep: Path, sweeper: Mapping[str, Any]) -> None:
    """Check that a job finds the folder of its sweep.

    Raises:
        ConfigError: its machine does not share it.
    """
    ours = "experiments_sweeper" in str(sweeper.get("_target_"))
    if ours and not (sweep / sweep_plan.PLAN).is_file():
        problem = f"{sweep} holds no sweep.json here; all machines have to share the sweep's folder"
        raise ConfigError(Fault("hydra.sweep.dir", problem))


def portable(error: Any) -> Any:
    """Return what a job returned or raised, such that the process that launched it can unpickle it."""
    try:
        copy.deepcopy(error)  # makes it again as pickle does
    except Exception:  # noqa: BLE001  # whatever its class does when it is made again
        return TrainingError(f"{type(error).__name__}: {error}")
    return error


@contextlib.contextmanager
def tolerate_failures(sweep: Path, launcher: DictConfig) -> Iterator[None]:
    """Have a launcher wait for all jobs, killed ones being failed.

    Raises:
        TrainingError: it gave up, and lost the jobs that were not done.
    """
    try:
        with waiting_for_all(package(launcher)):
            yield
    except Exception as error:
        why = why_gave_up(error, launcher)
        if why is None:
            raise
        again = f"{command('resume')} {relative(sweep)}"
        raise TrainingError(f"{why}; what did not finish is run by {again}") from error


def _at_once(launcher: DictConfig, device: str) -> int:
    """Return how many jobs run at once on this machine; 1 for a launcher that does not say so."""
    if "per_card" in launcher:
        return len(_slots(launcher, device))
    if "stack" in launcher:
        return _stack(launcher)
    if "n_jobs" not in launcher:
        return 1
    given = int(_number(launcher, "n_jobs"))
    return max(1, given if given > 0 else cpu_contention.cores() + 1 + given)  # as joblib counts: -1 is all cores


def _threads(launcher: DictConfig, device: str) -> int | None:
    """Return the threads that a launcher gives each job; None for one that runs them in turn, on all cores."""
    if "n_jobs" in launcher or "per_card" in launcher:
        return max(1, cpu_contention.cores() // _at_once(launcher, device))
    if launcher.get("cpus_per_task") is not None:
        return int(_number(launcher, "cpus_per_task"))
    if "ray" in launcher:
        asked = launcher.ray.remote.get("num_cpus")
        return max(1, int(_number(launcher, "ray.remote.num_cpus", float))) if asked else 1
    return None


def _stack(launcher: DictConfig) -> int:
    """Return how many models a stack has at most.

    Raises:
        ConfigError: it is neither auto nor a number.
    """
    given = launcher.stack
    if given != "auto" and (type(given) is not int or given < 1):
        problem = f"{given!r} is given; it should be auto or a whole number of 1 or more"
        raise ConfigError(Fault("hydra.launcher.stack", problem))
    return STACKED if given == "auto" else given


def _slots(launcher: DictConfig, device: str) -> list[dict[str, str]]:
    """Return the variables of each slot.

    Raises:
        ConfigError: they cannot be made as they are configured.
    """
    from hydra_plugins.experiments_slots._workers import environments

    if not isinstance(launcher.max_retries, int) or launcher.max_retries < 0:
        problem = f"{launcher.max_retries!r} is given; it should be a whole number of 0 or more"
        raise ConfigError(Fault("hydra.launcher.max_retries", problem))
    cards = () if launcher.cards == "auto" and device == "cpu" else launcher.cards
    try:
        return environments(launcher.slots, cards, launcher.per_card)
    except ValueError as error:
        key, _, problem = str(error).partition(": ")
        raise ConfigError(Fault(f"hydra.launcher.{key}", problem)) from None


def _number(launcher: DictConfig, key: str, kind: type[float] = int) -> float:
    """Return a launcher's number.

    Raises:
        ConfigError: it is not of that kind, or 0.
    """
    given = OmegaConf.select(launcher, key)
    if not isinstance(given, int | kind) or given == 0:
        expected = "a whole number other than 0" if kind is int else "a number"
        raise ConfigError(Fault(f"hydra.launcher.{key}", f"{given!r} is given; it should be {expected}"))
    return given
