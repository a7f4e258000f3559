"""The slots of the launcher, a worker process each, and what is run there.

Where the system can, workers are forked from a server process, which has imported what they need and nothing else; so
that is imported once, beside what the first process does, and a new worker is there at once. Each slot has an executor
of one worker, since the standard library's gives up all its workers as soon as one dies.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from multiprocessing.context import BaseContext
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from loky import wrap_non_picklable_objects
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

    context: HydraContext
    config: DictConfig
    task: TaskFunction
    state: Any

    @classmethod
    def of(cls, launcher: SlotsLauncher, overrides: Sequence[str], number: int) -> Job:
        """Compose a launcher's job."""
        config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{number}"
            config.hydra.job.num = number
        return cls(launcher.hydra_context, config, launcher.task_function, Singleton.get_state())

    def run(self) -> JobReturn:
        """Run it in this process."""
        setup_globals()
        Singleton.set_state(self.state)
        HydraConfig.instance().set_config(self.config)
        return run_job(
            hydra_context=self.context,
            config=self.config,
            task_function=self.task,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )


class Workers:
    """The worker processes and the jobs that wait for one.

    Args:
        variables: the environment variables of each slot.
        preload: modules that are imported for all of them.
        max_retries: how often a job whose worker died is started again.
    """

    def __init__(self, variables: Sequence[dict[str, str]], preload: Sequence[str], max_retries: int) -> None:
        self.max_retries = max_retries
        self.processes = _served(variables[0][THREADS], preload)
        # Nothing is ever sent: a worker ends when the other end is closed, by `close` or by the death of this process.
        self.theirs, self._ours = Pipe(duplex=False)
        self._slots = [_Slot(one, self) for one in variables]
        self._free = queue.SimpleQueue[_Slot]()
        for slot in self._slots:
            self._free.put(slot)
        self._threads = ThreadPoolExecutor(len(variables))
        self._composing = threading.Lock()
        self._busy, self._since = 0.0, 0.0
        self.closed = False

    def submit(self, launcher: SlotsLauncher, overrides: Sequence[str], number: int) -> Future[JobReturn]:
        """Run a job in the first slot that is free."""
        self._since = self._since or time.monotonic()
        return self._threads.submit(self._run, launcher, overrides, number)

    def close(self) -> None:
        """End the processes; jobs that wait are cancelled."""
        self.closed = True
        self._ours.close()
        try:
            self._threads.shutdown(cancel_futures=True)
        except BaseException:  # a second Ctrl-C
            for slot in self._slots:
                slot.kill()
            raise
        self.theirs.close()
        if self._busy:
            share = self._busy / (len(self._slots) * (time.monotonic() - self._since))
            log.info("slots   %d, busy %.0f %% of the time", len(self._slots), 100 * share)

    def _run(self, launcher: SlotsLauncher, overrides: Sequence[str], number: int) -> JobReturn:
        slot, started = self._free.get(), time.monotonic()
        try:
            with self._composing:
                job = Job.of(launcher, overrides, number)
            return slot.run(job)
        finally:
            self._busy += time.monotonic() - started
            self._free.put(slot)


class _Slot:
    def __init__(self, variables: dict[str, str], workers: Workers) -> None:
        self.variables, self.workers = variables, workers
        self.executor: ProcessPoolExecutor | None = None
        self.process: Future[int] | None = None

    def run(self, job: Job) -> JobReturn:
        """Run a job in this slot's process; in a new one, again, where it dies."""
        packed = wrap_non_picklable_objects(job, keep_wrapper=False)  # functions of a script, for one
        for _ in range(1 + self.workers.max_retries):
            if self.executor is None:
                given = self.workers.theirs, self.variables
                self.executor = ProcessPoolExecutor(1, self.workers.processes, initializer=_begin, initargs=given)
                self.process = self.executor.submit(os.getpid)
            try:
                returned: JobReturn = self.executor.submit(_execute, packed).result()
                return returned  # noqa: TRY300  # the other way is the next turn
            except BrokenProcessPool:
                if self.workers.closed:
                    raise
                log.warning("the worker process of job %d died", job.config.hydra.job.num)
                self.executor = None
        failed = JobReturn(status=JobStatus.FAILED)
        failed.return_value = WorkerDiedError(f"its process died {1 + self.workers.max_retries} times")
        return failed

    def kill(self) -> None:
        """End the process at once."""
        if self.process is not None and self.process.done() and not self.process.exception():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.result(), signal.SIGKILL)


def _served(threads: str, preload: Sequence[str]) -> BaseContext:
    """Return how processes are started: from a server, which begins to import the modules and the script."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    before = os.environ.get(THREADS)
    os.environ.setdefault(THREADS, threads)  # what counts processors does it when it is imported
    try:
        forkserver.set_forkserver_preload(["__main__", *preload])
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ[THREADS]
    return multiprocessing.get_context("forkserver")


# Of a worker: set when it shall end.
_over = threading.Event()


def _begin(alive: Connection, variables: dict[str, str]) -> None:
    os.environ.update({key: value for key, value in variables.items() if key == VISIBLE or key not in os.environ})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the first process too, which ends the workers
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()


def _end_with(alive: Connection) -> None:
    try:
        alive.poll(None)
    finally:
        _over.set()
        os.kill(os.getpid(), signal.SIGTERM)


def _execute(job: Job) -> JobReturn:
    try:
        returned: JobReturn = wrap_non_picklable_objects(job.run(), keep_wrapper=False)
        return returned
    finally:
        if _over.is_set():  # SIGTERM ended the job alone
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(128 + signal.SIGTERM)
