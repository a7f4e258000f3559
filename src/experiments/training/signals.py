"""What comes from outside: SIGTERM and Ctrl-C, and word of a loader's worker process that was killed.

The first SIGTERM or Ctrl-C ends a training at the end of its step, with its state saved; the second at once.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from experiments.errors import TrainingError

log = logging.getLogger(__name__)

# What is replaced, and only where it is: a launcher may have a say of its own on these signals.
ORDINARY: dict[signal.Signals, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}

# How long torch's word of a dead worker is awaited: it comes as soon as the system has put the process away.
WORD_SECONDS = 1.0


@dataclass
class StopRequest:
    """The wish, a signal's say, that a training stops after its step with its state saved.

    Args:
        reason: what to raise then; None for no such wish.
    """

    reason: BaseException | None = None


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Let these signals do nothing but where others say what they do.

    For the first of several processes: as soon as one is gone, torchrun sends SIGTERM to the others, and how the run
    ended has to be written all the same.
    """
    replaced = [number for number, ordinary in ORDINARY.items() if signal.getsignal(number) == ordinary]
    for number in replaced:
        signal.signal(number, _nothing)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, ORDINARY[number])


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Unlike SIG_IGN, it is not handed on to processes that are started."""


@contextlib.contextmanager
def between_steps(stop: StopRequest) -> Iterator[None]:
    """Let these signals end the training as KeyboardInterrupt and SystemExit(143) do, but between two steps."""

    def leave(number: int, _frame: FrameType | None) -> None:
        reason = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        if stop.reason is not None:
            raise reason
        stop.reason = reason
        log.info("stopping after this step and saving a checkpoint (signal again to stop now)")

    replaced: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        found = {number: signal.getsignal(number) for number in ORDINARY}
        replaced = {number: old for number, old in found.items() if old in (ORDINARY[number], _nothing)}
    for number in replaced:
        signal.signal(number, leave)
    try:
        yield
        if stop.reason is not None:  # it came when there was no step left
            raise stop.reason
    finally:
        for number, old in replaced.items():
            signal.signal(number, old)


class Preempted(BaseException):
    """The machine is wanted by others, or the time is over; raised between two steps, with the state saved."""


@contextlib.contextmanager
def preempted_between_steps(stop: StopRequest) -> Iterator[None]:
    """Let what submitit does at its signal (the job is queued again, the process ends) wait for the end of the step."""
    number: Any = getattr(signal, "SIGUSR2", None)  # which Windows has not
    theirs: Any = signal.getsignal(number) if number else None
    if not type(getattr(theirs, "__self__", None)).__module__.startswith("submitit."):
        yield
        return

    def leave(_number: int, _frame: FrameType | None) -> None:
        stop.reason = stop.reason or Preempted()

    signal.signal(number, leave)
    try:
        yield
    except Preempted:
        theirs(number, None)
        raise
    finally:
        signal.signal(number, theirs)


@contextlib.contextmanager
def workers_watched(stop: StopRequest) -> Iterator[None]:
    """Tell that a loader's worker process was killed, by a lack of memory say, as what it is.

    Torch raises wherever the main thread happens to be when the word comes, or where a batch is fetched from the dead;
    so this belongs around all that is done while there are workers.

    Raises:
        TrainingError: a worker is gone.
    """
    try:
        with _word_awaited():
            yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        if not _is_of_a_dead_worker(error):
            raise
        if stop.reason is not None:  # a signal to all of the run's processes, so that this step cannot end
            raise stop.reason from None
        reason = (str(error) or type(error).__name__).splitlines()[0].strip()
        problem = f"{reason}; loader.num_workers=0 does without worker processes"
        raise TrainingError(f"a worker process of the loader is gone: {problem}") from error


@contextlib.contextmanager
def _word_awaited() -> Iterator[None]:
    """Where a batch is fetched from the dead, wait for torch's word of it.

    It says more, and would else be raised in the middle of whatever is done about this error.
    """
    try:
        yield
    except (ConnectionError, EOFError) as error:
        if _is_of_a_dead_worker(error):
            time.sleep(WORD_SECONDS)  # torch raises here
        raise


def _is_of_a_dead_worker(error: Exception) -> bool:
    if isinstance(error, RuntimeError):
        return "DataLoader worker" in str(error)
    # A broken connection of a dataset's own has no such frames.
    frames = traceback.extract_tb(error.__traceback__)
    return any("multiprocessing" in Path(frame.filename).parts for frame in frames)
