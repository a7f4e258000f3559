"""Jobs of a sweep in one process, side by side: each runs in a greenlet up to what a stack does for all of them.

So a job's own code is what it is anywhere: it loads, records, saves and calls back when it is its turn.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from greenlet import getcurrent, greenlet
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus

from experiments.config.root import RootConfig
from experiments.seeds import noise_state, restore_noise
from experiments.training import device, signals
from experiments.training.signals import StopRequest
from hydra_plugins.experiments_batched._member import PLACE, Meeting, Member, loss_numbers
from hydra_plugins.experiments_batched._seat import Layout, Seat
from hydra_plugins.experiments_batched._stack import Stack

CPU = torch.device("cpu")
Stops = KeyboardInterrupt | SystemExit


class ProcessState:
    """What a process has once and each job has for itself: log, Hydra's configuration, noise, signals, folder."""

    def __init__(self) -> None:
        main = threading.current_thread() is threading.main_thread()  # other threads cannot set handlers
        self.handlers = {number: signal.getsignal(number) for number in signals.ORDINARY if main}
        self.log, self.config = logging.getLogger().handlers[:], HydraConfig.instance().cfg
        self.noise, self.folder = noise_state(CPU), Path.cwd()

    def restore(self) -> None:
        """Have the process as it was."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        logging.getLogger().handlers[:] = self.log
        HydraConfig.instance().cfg = self.config
        restore_noise(self.noise, CPU)
        os.chdir(self.folder)


@dataclass(eq=False)
class _Turn:
    """A job in its greenlet.

    Args:
        seat: what it waits for.
        state: the process as the job left it.
        returned: what it ended with.
    """

    run: greenlet
    seat: Seat | None = None
    state: ProcessState | None = None
    returned: JobReturn | None = None


class Crew:
    """Runs jobs whose trainings are one stack.

    Args:
        root: the configuration of one of them; all have the same device.
        layout: of the stack.
    """

    def __init__(self, root: RootConfig, layout: Layout) -> None:
        self.root, self.layout = root, layout
        self.stack: Stack | None = None
        self.stop = StopRequest()
        self.first: BaseException | None = None  # what ended a job as no error of it does
        self.hub = getcurrent()

    def run(self, jobs: Mapping[int, Callable[[], JobReturn]]) -> list[JobReturn]:
        """Run the jobs, by their slots, and return what they returned.

        Raises:
            KeyboardInterrupt, SystemExit: a signal came; each training has saved its state.
        """
        turns = [_Turn(greenlet(self._placed(slot, job))) for slot, job in jobs.items()]
        try:
            for turn in turns:
                self._go(turn)
            while seats := {turn.seat: turn for turn in turns if turn.seat is not None}:
                behind = min(seat.place for seat in seats)  # those ahead wait until the others are there
                answered = [seat for seat in seats if seat.place == behind]
                self._answer(answered)
                for seat in answered:
                    self._go(seats[seat])
        except BaseException as error:  # a signal between two turns
            ours = ProcessState()
            for turn in turns:
                self._end(turn, error)
            ours.restore()
            raise
        if self.first is not None:
            raise self.first
        return [turn.returned or JobReturn(status=JobStatus.UNKNOWN) for turn in turns]

    def _placed(self, slot: int, job: Callable[[], JobReturn]) -> Callable[[], JobReturn]:
        def meeting(seat: Seat) -> None:
            self.hub.switch(seat)

        def place(member: Member) -> tuple[Meeting, int]:
            if self.stack is None:
                self.stack = Stack(self.layout, member, loss_numbers(member))
                self.stack.stopping = lambda: self.stop.reason is not None
            return meeting, slot

        def run() -> JobReturn:
            PLACE.set(place)
            return job()

        return run

    def _answer(self, seats: Sequence[Seat]) -> None:
        device.set_up(self.root.device, deterministic=self.root.deterministic)  # what has ended restored its own
        try:
            if self.stop.reason is None:
                with signals.between_steps(self.stop):
                    self._take(seats)
        except (KeyboardInterrupt, SystemExit) as error:
            self.stop.reason = error
        for seat in seats:
            seat.runner.stop_request.reason = seat.runner.stop_request.reason or self.stop.reason

    def _take(self, seats: Sequence[Seat]) -> None:
        assert self.stack is not None
        try:
            self.stack.answer(seats)
        except (KeyboardInterrupt, SystemExit) as error:  # a second signal, within a step: there is no state to save
            for seat in seats:
                seat.problem = error
            raise

    def _go(self, turn: _Turn) -> None:
        """Have a job continue until it waits again or has ended."""
        ours, turn.seat = ProcessState(), None
        if turn.state is not None:
            turn.state.restore()
            device.set_up(self.root.device, deterministic=self.root.deterministic)
        try:
            found: Any = turn.run.switch()
        except BaseException as error:  # noqa: BLE001  # raised again once the others have ended
            self.first = self.first or error
            if isinstance(error, Stops):
                self.stop.reason = self.stop.reason or error
        else:
            if turn.run.dead:
                turn.returned = found
            else:
                turn.seat = found
                self.stop.reason = self.stop.reason or found.runner.stop_request.reason
        finally:
            turn.state = ProcessState()
            ours.restore()

    @staticmethod
    def _end(turn: _Turn, error: BaseException) -> None:
        """Have a job that is not done end by an error."""
        if not turn.run.dead:
            if turn.state is not None:
                turn.state.restore()
            with contextlib.suppress(BaseException):
                turn.run.throw(error)
