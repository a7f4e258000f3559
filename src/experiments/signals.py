"""SIGTERM and Ctrl-C: the first ends a training at the end of its step, with its state saved; the second at once."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.runner import Runner

log = logging.getLogger(__name__)

# What is replaced, and only where it is: a launcher may have a say of its own on these signals.
ORDINARY: dict[signal.Signals, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


@contextlib.contextmanager
def between_steps(runner: Runner) -> Iterator[None]:
    """Let these signals end the training as KeyboardInterrupt and SystemExit(143) do, but between two steps."""

    def leave(number: int, _frame: FrameType | None) -> None:
        reason = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        if runner.leave is not None:
            raise reason
        runner.leave = reason
        log.info("ends after this step, and keeps its state (a second signal ends it at once)")

    replaced = []
    if threading.current_thread() is threading.main_thread():
        replaced = [number for number, ordinary in ORDINARY.items() if signal.getsignal(number) == ordinary]
    for number in replaced:
        signal.signal(number, leave)
    try:
        yield
        if runner.leave is not None:  # it came when there was no step left
            raise runner.leave
    finally:
        for number in replaced:
            signal.signal(number, ORDINARY[number])
