"""The processes of one training: their process group, what they exchange, and the detection of a lost one.

Torch's process group, from torchrun's environment: gloo between CPUs and for plain values, NCCL between CUDA cards.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from itertools import zip_longest
from typing import Any

import torch
import torch.distributed as dist

from experiments import ranks
from experiments.errors import TrainingError, UserError, command, first_line
from experiments.training.signals import StopRequest

# How long a process waits for the others within the training.
TIMEOUT = timedelta(minutes=10)
# How long to look for the lost process: torchrun looks every tenth of a second, and ends the others then.
ASK_SECONDS = 3.0
POLL_SECONDS = 0.02


class LostError(TrainingError):
    """Another process of the training ended or does not answer."""


class Group:
    """The processes that train together, as one of them sees them; `store` is torch's, which outlives each.

    All of them have to call each method that exchanges something, in the same order.
    """

    def __init__(self, store: Any, device: torch.device) -> None:
        self.rank, self.world, self.store, self.device = ranks.rank(), ranks.world(), store, device
        self.asked = StopRequest()  # by a signal, in this process only
        self.agreed = StopRequest()  # by all processes, for the same step
        self._turns = 0
        self.people = self.gather((socket.gethostname(), os.getpid()))

    def exchange(self, collective: Callable[..., Any], *given: Any, **options: Any) -> None:
        """Call one of torch.distributed's collectives.

        Raises:
            LostError: another process ended or does not answer.
        """
        try:
            collective(*given, **options)
        except RuntimeError as error:
            if self.rank:
                time.sleep(ASK_SECONDS)  # so that the first process does not take this one for the lost one
                raise LostError("another process ended") from error
            unknown = f"another process ended, or did not answer for {TIMEOUT}: {first_line(error)}"
            raise LostError(f"{self._lost_process() or unknown}; resume with {command('resume')}") from error

    def gather(self, value: Any) -> list[Any]:
        """Return the plain values that the processes pass, by their numbers."""
        found: list[Any] = [None] * self.world
        self.exchange(dist.all_gather_object, found, value)
        return found

    def from_first(self, value: Any = None) -> Any:
        """Return the plain value that the first process passes."""
        box = [value]
        self.exchange(dist.broadcast_object_list, box, src=0)
        return box[0]

    def all_reduce(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes, number by number, and agree on whether to stop.

        Where a process has fewer numbers, it had no rows.
        """
        found = self.gather((list(values), self.wish))
        self.agree(max(wish for _, wish in found))
        return [sum(column) for column in zip_longest(*(values for values, _ in found), fillvalue=0)]

    @property
    def wish(self) -> int:
        """The signal that asked this process to stop; 0 for none."""
        reason = self.asked.reason
        if reason is None:
            return 0
        return reason.code - 128 if isinstance(reason, SystemExit) else int(signal.SIGINT)  # type: ignore[operator]  # ours

    def agree(self, wish: int) -> None:
        """Stop at the next check, which is the same in all processes, if one of them was asked to."""
        if wish:
            self.agreed.reason = KeyboardInterrupt() if wish == signal.SIGINT else SystemExit(128 + wish)

    def after_first_here(self, action: Callable[[], Any]) -> Any:
        """Do something after the first process of this machine has, which may have downloaded what it needs."""
        self._turns += 1
        key = f"experiments/done/{os.environ.get('GROUP_RANK', '0')}/{self._turns}"
        if ranks.local() == 0:
            result = action()
            self.store.set(key, "")
            return result
        # A download may be slow; where the other process dies in it, torchrun ends this one.
        self.store.wait([key], timedelta(days=7))
        return action()

    def report(self, error: BaseException) -> None:
        """Store what ends this process, for the first one to report."""
        if not isinstance(error, LostError):
            words = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            with contextlib.suppress(RuntimeError):  # torchrun may have ended as well
                self.store.set(_key(self.rank), words)

    def _lost_process(self) -> str | None:
        until = time.monotonic() + ASK_SECONDS
        while time.monotonic() < until:
            for other, (host, pid) in enumerate(self.people[1:], 1):
                with contextlib.suppress(RuntimeError):
                    if self.store.check([_key(other)]):
                        return f"process {other} of {self.world} failed: {self.store.get(_key(other)).decode()}"
                if host == socket.gethostname() and not _is_running(pid):
                    return f"process {other} of {self.world} (pid {pid}) ended, killed by a lack of memory perhaps"
            time.sleep(POLL_SECONDS)
        return None


@contextlib.contextmanager
def joined(device: Callable[[], torch.device]) -> Iterator[Group | None]:
    """Yield the group of processes that torchrun has started; None where there is none, and `device` is not called."""
    if ranks.world() == 1:
        yield None
        return
    chosen = device()
    backend = "gloo"
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        backend = "cpu:gloo,cuda:nccl"
    store, rank, world = next(dist.rendezvous("env://", timeout=TIMEOUT))  # type: ignore[attr-defined]  # not in its __all__
    store.set_timeout(TIMEOUT)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=TIMEOUT)
    group = Group(store, chosen)
    try:
        yield group
    except BaseException as error:
        group.report(error)
        raise
    # Not after an error: without one of the processes it may wait, and the process ends anyway.
    dist.destroy_process_group()


def _key(rank: int) -> str:
    return f"experiments/failed/{rank}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
