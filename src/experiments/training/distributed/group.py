"""The processes of one training: how they find each other, exchange what they have, and notice that one is gone.

Torch's own process group over what torchrun says in the environment: gloo between CPUs, and for all that is said
between processes; NCCL between CUDA cards.
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
from torch import Tensor

from experiments import ranks
from experiments.errors import TrainingError, UserError
from experiments.training.signals import StopRequest

# How long a process waits for the others within the training: they all do the same work.
TIMEOUT = timedelta(minutes=10)
# How long to ask who is gone: torchrun looks every tenth of a second, and ends the others then.
ASK_SECONDS = 3.0
POLL_SECONDS = 0.02


class LostError(TrainingError):
    """Another process of the training is gone, or does not answer."""


class Group:
    """The processes that train together, as one of them has them.

    Every method that exchanges something has to be called by all of them, in the same order.

    Args:
        store: what a word can be left in for the others, which outlives each of them.
        device: what this process computes on.
    """

    def __init__(self, store: Any, device: torch.device) -> None:
        self.rank, self.world, self.store, self.device = ranks.rank(), ranks.world(), store, device
        self.asked = StopRequest()  # by a signal's handler, in this process alone
        self.agreed = StopRequest()  # by all processes, for the same step
        self._turns = 0
        self.people = self.gather((socket.gethostname(), os.getpid()))

    def gather(self, value: Any) -> list[Any]:
        """What each process gives, plain values, in the order of their numbers."""
        found: list[Any] = [None] * self.world
        with self._losing():
            dist.all_gather_object(found, value)
        return found

    def from_first(self, value: Any = None) -> Any:
        """What the first process gives; what others give is not looked at."""
        box = [value]
        with self._losing():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def add(self, tensor: Tensor) -> None:
        """Make a tensor the sum of all processes' own."""
        with self._losing():
            dist.all_reduce(tensor)

    def largest(self, tensor: Tensor) -> None:
        """Make a tensor the largest of all processes', number by number."""
        with self._losing():
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)

    def all_reduce(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, number by number; they also agree on whether to stop.

        Where a process has fewer numbers, it had no rows there.
        """
        found = self.gather((list(values), self.wish))
        self.agree(max(wish for _, wish in found))
        return [sum(column) for column in zip_longest(*(values for values, _ in found), fillvalue=0)]

    @property
    def wish(self) -> int:
        """The signal by which this process has been asked to stop; 0 for none."""
        reason = self.asked.reason
        if reason is None:
            return 0
        return reason.code - 128 if isinstance(reason, SystemExit) else int(signal.SIGINT)  # type: ignore[operator]  # ours

    def agree(self, wish: int) -> None:
        """Stop at the next occasion, which is the same in all processes, if one of them wants it."""
        if wish:
            self.agreed.reason = KeyboardInterrupt() if wish == signal.SIGINT else SystemExit(128 + wish)

    def copy_first(self, tensor: Tensor) -> None:
        """Make a tensor the first process's."""
        with self._losing():
            dist.broadcast(tensor, src=0)

    def after_first_here(self, action: Callable[[], Any]) -> Any:
        """Do it once the first process of this machine has: what that one has downloaded is there then."""
        self._turns += 1
        word = f"experiments/done/{os.environ.get('GROUP_RANK', '0')}/{self._turns}"
        if ranks.local() == 0:
            result = action()
            self.store.set(word, "")
            return result
        # A download may take its time; where the other dies in it, torchrun ends this process.
        self.store.wait([word], timedelta(days=7))
        return action()

    def tell(self, error: BaseException) -> None:
        """Leave word of what ends this process, for the first one to tell."""
        if not isinstance(error, LostError):
            words = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            with contextlib.suppress(RuntimeError):  # torchrun may be gone as well
                self.store.set(_word(self.rank), words)

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        """Torch's words for a process that is gone, or does not answer, in ours."""
        try:
            yield
        except RuntimeError as error:
            if self.rank:
                time.sleep(ASK_SECONDS)  # so that the first process does not take this one for the one that is gone
                raise LostError("another process is gone") from error
            told = self._what_became(error)
            raise LostError(f"{told}; what was saved is whole, and experiments.resume goes on") from error

    def _what_became(self, error: RuntimeError) -> str:
        until = time.monotonic() + ASK_SECONDS
        while time.monotonic() < until:
            for other in range(1, self.world):
                if (words := self._said(other)) is not None:
                    return f"process {other} of {self.world} failed: {words}"
                if not self._lives(other):
                    pid = self.people[other][1]
                    return f"process {other} of {self.world} (pid {pid}) is gone, killed by a lack of memory perhaps"
            time.sleep(POLL_SECONDS)
        return f"another process is gone, or did not answer for {TIMEOUT}: {str(error).splitlines()[0]}"

    def _said(self, other: int) -> str | None:
        with contextlib.suppress(RuntimeError):
            if self.store.check([_word(other)]):
                return str(self.store.get(_word(other)).decode())
        return None

    def _lives(self, other: int) -> bool:
        host, pid = self.people[other]
        if host != socket.gethostname():
            return True  # of another machine nothing can be seen
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True


@contextlib.contextmanager
def joined(device: Callable[[], torch.device]) -> Iterator[Group | None]:
    """The group of processes that torchrun has started, for the time of a run; None where there is none.

    Args:
        device: what this process computes on, asked for where there is a group.
    """
    if ranks.world() == 1:
        yield None
        return
    chosen = device()
    backend = "gloo"
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=TIMEOUT)
    group = Group(dist.distributed_c10d._get_default_store(), chosen)
    try:
        yield group
    except BaseException as error:
        group.tell(error)
        raise
    # Only now: with one of them gone it may wait for it, and the process ends anyway.
    dist.destroy_process_group()


def _word(rank: int) -> str:
    return f"experiments/failed/{rank}"
