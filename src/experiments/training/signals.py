"""Signals: Ctrl-C, SIGTERM, SIGHUP (a closed terminal), a scheduler's preemption, a loader's killed worker process.

The first Ctrl-C, SIGTERM or SIGHUP stops a training at the end of its step, with its state saved; the second at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.errors import TrainingError, first_line

log = logging.getLogger(__name__)

# Handlers are replaced only where these are set: a launcher may handle these signals itself, and nohup ignores SIGHUP.
ORDINARY: dict[signal.Signals, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
if hasattr(signal, "SIGHUP"):  # Windows has none
    ORDINARY[signal.SIGHUP] = signal.SIG_DFL

# How long to wait until torch reports a dead worker: until the system has reaped the process.
REPORT_SECONDS = 1.0


@dataclass
class StopRequest:
    """A signal's request that a training stops after its step with its state saved, and raises `reason`."""

    reason: BaseException | None = None


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Ignore these signals, except within `between_steps`.

    For the first of several processes: as soon as one is gone, torchrun sends SIGTERM to the others, and how the run
    ended must be written all the same.
    """
    with _handled(_ignore, replaced=()):
        yield


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Have these signals end a sweep as Ctrl-C does, with its table, except within `between_steps`."""
    with _handled(_raise, replaced=()):
        yield


@contextlib.contextmanager
def between_steps(stop: StopRequest) -> Iterator[None]:
    """Have these signals end the training, by KeyboardInterrupt or SystemExit(128 + number), between two steps."""
    process = os.getpid()

    def request(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            return  # a loader's worker has the handler too; this process needs it to end the step, and ends it then
        if stop.reason is not None:
            _raise(number, frame)
        stop.reason = _reason(number)
        log.info("stopping after this step and saving a checkpoint (signal again to stop now)")

    with _handled(request, replaced=(_ignore, _raise)):
        yield
        if stop.reason is not None:  # it came when there was no step left
            raise stop.reason


@contextlib.contextmanager
def _handled(handler: Any, *, replaced: tuple[Any, ...]) -> Iterator[None]:
    """Handle these signals where their handler is the ordinary one, or one of those to be replaced."""
    is_main = threading.current_thread() is threading.main_thread()  # other threads cannot set handlers
    found = {number: signal.getsignal(number) for number in ORDINARY if is_main}
    found = {number: old for number, old in found.items() if old in (ORDINARY[number], *replaced)}
    for number in found:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in found.items():
            signal.signal(number, old)


def _reason(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise _reason(number)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Unlike SIG_IGN, this is not inherited by started processes."""


class Preempted(BaseException):
    """The machine is wanted by others, or the time is over; raised between two steps, with the state saved."""


@contextlib.contextmanager
def preempted_between_steps(stop: StopRequest) -> Iterator[None]:
    """Delay what submitit does at its signal (queue the job again, end the process) until the end of the step."""
    number: Any = getattr(signal, "SIGUSR2", None)  # Windows has none
    theirs: Any = signal.getsignal(number) if number else None
    if not type(getattr(theirs, "__self__", None)).__module__.startswith("submitit."):
        yield
        return

    def request(_number: int, _frame: FrameType | None) -> None:
        stop.reason = stop.reason or Preempted()

    signal.signal(number, request)
    try:
        yield
    except Preempted:
        theirs(number, None)
        raise
    finally:
        signal.signal(number, theirs)


@contextlib.contextmanager
def workers_watched(stop: StopRequest) -> Iterator[None]:
    """Report a loader's worker process that was killed, by a lack of memory for example.

    Torch raises wherever the main thread is when it learns of it, or where a batch is fetched from the dead worker; so
    this belongs around everything that is done while there are workers.

    Raises:
        TrainingError: a worker was killed.
    """
    try:
        try:
            yield
        except (ConnectionError, EOFError) as error:
            if _is_of_a_dead_worker(error):
                time.sleep(REPORT_SECONDS)  # torch raises here, says more, and would else raise in a handler of this
            raise
    except (RuntimeError, ConnectionError, EOFError) as error:
        if not _is_of_a_dead_worker(error):
            raise
        if stop.reason is not None:  # a signal to all of the run's processes, so that this step cannot end
            raise stop.reason from None
        problem = f"{first_line(error)}. Without worker processes: loader.num_workers=0"
        raise TrainingError(f"a worker process of the loader was killed: {problem}") from error


def _is_of_a_dead_worker(error: Exception) -> bool:
    if isinstance(error, RuntimeError):
        return "DataLoader worker" in str(error)
    # A broken connection of a dataset's own has no such frames.
    frames = traceback.extract_tb(error.__traceback__)
    return any("multiprocessing" in Path(frame.filename).parts for frame in frames)
