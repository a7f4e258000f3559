"""The slots of the launcher, a worker process each, and what is run there.

Each slot has an executor of one process, since an executor of loky or the standard library gives up all its workers as
soon as one dies.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from loky.process_executor import BrokenProcessPool, ProcessPoolExecutor
from omegaconf import DictConfig, open_dict

if TYPE_CHECKING:
    from hydra_plugins.experiments_slots import SlotsLauncher

log = logging.getLogger(__name__)

VISIBLE, THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"


class WorkerDiedError(RuntimeError):
    """A job's worker process died, each time that the job was tried."""


def environments(slots: int | str, cards: Sequence[Any] | str, per_card: int) -> list[dict[str, str]]:
    """Return the environment variables of each slot: the card that it sees, and its share of the cores.

    Raises:
        ValueError: a setting has no such value.
    """
    if slots != "auto" and (not isinstance(slots, int) or slots < 1):
        raise ValueError(f"slots: {slots!r} is given; it should be auto or a whole number of 1 or more")
    if not isinstance(per_card, int) or per_card < 1:
        raise ValueError(f"per_card: {per_card!r} is given; it should be a whole number of 1 or more")
    if not isinstance(cards, Sequence) or (isinstance(cards, str) and cards != "auto"):
        raise ValueError(f"cards: {cards!r} is given; it should be auto or a list, such as [0,1]")
    seen = visible_cards() if cards == "auto" else [str(card) for card in cards]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = int(slots) if slots != "auto" else len(seen) * per_card or cores
    threads = {THREADS: str(max(1, cores // count))}
    return [threads | ({VISIBLE: seen[place % len(seen)]} if seen else {}) for place in range(count)]


def visible_cards() -> list[str]:
    """Return the NVIDIA cards that this process may use."""
    if VISIBLE in os.environ:
        return [card.strip() for card in os.environ[VISIBLE].split(",") if card.strip() not in ("", "-1")]
    if (command := shutil.which("nvidia-smi")) is None:
        return []
    asked = [command, "--query-gpu=index", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603  # found above
    return done.stdout.split() if done.returncode == 0 else []


@dataclass(frozen=True)
class Job:
    """A job of a multirun, with what a process needs to run it as Hydra would."""

    number: int
    overrides: list[str]
    context: HydraContext
    config: DictConfig
    task: TaskFunction
    state: Any

    @classmethod
    def of(cls, launcher: SlotsLauncher, overrides: Sequence[str], number: int) -> Job:
        """Return a launcher's job."""
        setup_globals()
        configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
        Path(str(launcher.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        given = launcher.hydra_context, launcher.config, launcher.task_function
        return cls(number, list(overrides), *given, Singleton.get_state())

    def run(self) -> JobReturn:
        """Run it in this process."""
        setup_globals()
        Singleton.set_state(self.state)
        config = self.context.config_loader.load_sweep_config(self.config, self.overrides)
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{self.number}"
            config.hydra.job.num = self.number
        HydraConfig.instance().set_config(config)
        return run_job(
            hydra_context=self.context,
            config=config,
            task_function=self.task,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


class Workers:
    """The worker processes and the jobs that wait for one.

    Args:
        variables: the environment variables of each slot.
        preload: modules that each worker imports at its start.
        max_retries: how often a job whose worker died is started again.
    """

    def __init__(self, variables: Sequence[dict[str, str]], preload: Sequence[str], max_retries: int) -> None:
        self.preload, self.max_retries = list(preload), max_retries
        # Nothing is ever sent: a worker ends when the other end is closed, by `close` or by the death of this process.
        self._theirs, self._ours = Pipe(duplex=False)
        self._all = [_Slot(one, self) for one in variables]
        self._free = queue.SimpleQueue[_Slot]()
        for slot in self._all:
            self._free.put(slot)
        self._threads = ThreadPoolExecutor(len(variables))
        self._busy, self._since = 0.0, 0.0
        self.closed = False

    def submit(self, job: Job) -> Future[JobReturn]:
        """Run a job in the first slot that is free."""
        self._since = self._since or time.monotonic()
        return self._threads.submit(self._run, job)

    def close(self) -> None:
        """End the processes; jobs that wait are cancelled."""
        self.closed = True
        self._ours.close()
        try:
            self._threads.shutdown(cancel_futures=True)
        finally:  # at a second Ctrl-C they are killed
            for slot in self._all:
                slot.executor.shutdown(wait=False, kill_workers=True)
        self._theirs.close()
        if self._busy:
            share = self._busy / (len(self._all) * (time.monotonic() - self._since))
            log.info("slots   %d, busy %.0f %% of the time", len(self._all), 100 * share)

    def executor(self, variables: dict[str, str]) -> ProcessPoolExecutor:
        """Return an executor of one process, which has begun to import its modules."""
        own = {key: value for key, value in variables.items() if key == VISIBLE or key not in os.environ}
        made = ProcessPoolExecutor(1, initializer=_begin, initargs=(self._theirs, self.preload), env=own)
        made.submit(int)
        return made

    def _run(self, job: Job) -> JobReturn:
        slot, started = self._free.get(), time.monotonic()
        try:
            return slot.run(job)
        finally:
            self._busy += time.monotonic() - started
            self._free.put(slot)


class _Slot:
    def __init__(self, variables: dict[str, str], workers: Workers) -> None:
        self.variables, self.workers = variables, workers
        self.executor = workers.executor(variables)

    def run(self, job: Job) -> JobReturn:
        """Run a job in this slot's process; in a new one, again, where it dies."""
        why = ""
        for _ in range(1 + self.workers.max_retries):
            try:
                returned: JobReturn = self.executor.submit(_execute, job).result()
                return returned  # noqa: TRY300  # the other way is the next turn
            except BrokenProcessPool as died:
                if self.workers.closed:
                    raise
                why = str(died).split("{")[-1].split("}")[0]
                log.warning("the worker process of job %d died (%s)", job.number, why)
                self.executor = self.workers.executor(self.variables)
        error = WorkerDiedError(f"its process died {1 + self.workers.max_retries} times, at last with {why}")
        return JobReturn(overrides=job.overrides, status=JobStatus.FAILED, _return_value=error)


# Of a worker: set when it shall end.
_over = threading.Event()


def _begin(alive: Connection, preload: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process too, which ends the workers
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    for module in preload:
        with contextlib.suppress(ImportError):  # which the job that needs it will raise
            importlib.import_module(module)


def _end_with(alive: Connection) -> None:
    try:
        alive.poll(None)
    finally:
        _over.set()
        os.kill(os.getpid(), signal.SIGTERM)


def _execute(job: Job) -> JobReturn:
    try:
        return job.run()
    finally:
        if _over.is_set():  # SIGTERM ended the job alone
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(128 + signal.SIGTERM)
