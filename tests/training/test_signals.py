"""Which signals end a training or a sweep, and how; what ignores them goes on ignoring them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from experiments.training import signals
from experiments.training.signals import StopRequest

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signals"),
    pytest.mark.usefixtures("ordinary_signals"),
]
ENDING = [(signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture(autouse=True)
def ordinary() -> Iterator[None]:
    """Have the handlers that a process starts with, whatever the tests' own process has."""
    before = {number: signal.signal(number, handler) for number, handler in signals.ORDINARY.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), ENDING)
def test_the_first_asks_for_the_steps_end_and_the_second_ends_it(number: int, code: int) -> None:
    stop = StopRequest()
    with pytest.raises(SystemExit) as ended, signals.between_steps(stop):
        os.kill(os.getpid(), number)
        assert isinstance(stop.reason, SystemExit) and stop.reason.code == code
        os.kill(os.getpid(), number)
    assert ended.value.code == code


def test_under_nohup_a_closed_terminal_is_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = StopRequest()
    with signals.raised(), signals.between_steps(stop):
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert stop.reason is None


@pytest.mark.parametrize(("number", "code"), ENDING)
def test_a_sweep_is_ended_by_an_exception_with_the_signals_code(number: int, code: int) -> None:
    with pytest.raises(SystemExit) as ended, signals.raised():
        os.kill(os.getpid(), number)
    assert ended.value.code == code


def test_a_sweeps_job_finishes_its_step_first() -> None:
    stop = StopRequest()
    with pytest.raises(SystemExit), signals.raised(), signals.between_steps(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.reason is not None


def test_afterwards_the_handlers_are_the_ones_before() -> None:
    before = {number: signal.getsignal(number) for number in signals.ORDINARY}
    with signals.raised(), signals.between_steps(StopRequest()):
        pass
    assert {number: signal.getsignal(number) for number in signals.ORDINARY} == before


@pytest.mark.fork
@pytest.mark.process
def test_a_worker_process_that_gets_the_signal_too_works_on() -> None:
    stop = StopRequest()
    with signals.between_steps(stop):
        if (child := os.fork()) == 0:
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
