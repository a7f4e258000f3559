"""Epochs in turns: the contender's side of the benchmark, and its process.

A gate is called at each boundary between two epochs. A turn is one or more epochs. At the end of a turn the gate
reports the seconds per epoch since it last released the contender, and releases it again when the benchmark asks for
it. The seconds of an epoch therefore include everything that a trainer does from one epoch to the next, with its hooks,
logs and checkpoints, and nothing that others do meanwhile.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.contenders.task import VALID_BATCH_SIZE, Task

GO, END = "go", "end"


@dataclass(frozen=True)
class Told:
    """A contender's report at the end of a turn.

    Args:
        seconds: of an epoch.
        accuracy: the contender's validation accuracy; None if it computes none.
    """

    seconds: float
    accuracy: float | None


@dataclass(frozen=True)
class Final:
    """A contender's report at the end.

    Args:
        accuracy: of its model on the validation rows, computed here, in the same way for all.
        threads: of torch.
        note: additional text to report.
    """

    accuracy: float
    threads: int
    note: str


class Gate:
    """Release a contender turn by turn.

    Args:
        connection: to the benchmark.
        turns: the number of turns.
        each: epochs of a turn.
    """

    def __init__(self, connection: Connection, turns: int, each: int) -> None:
        self.connection, self.epochs, self.each = connection, turns * each, each
        self.model: Any = None
        self.note = ""
        self.shape: tuple[int, ...] | None = None  # of one input, if the model takes another shape than the task's
        # The contender's child processes are paused while it waits, because their work is part of its epochs.
        self.helpers: Callable[[], Iterable[int]] = lambda: ()
        self._passed = 0
        self._began = time.perf_counter()

    def turn(self, model: Any, accuracy: float | None = None) -> None:
        """Wait at the end of a turn. Call it before each epoch, and once after the last.

        Args:
            model: the model that is trained.
            accuracy: on the validation rows, after the epoch that ends here.
        """
        self._passed += 1
        if (self._passed - 1) % self.each:
            return
        told = Told((time.perf_counter() - self._began) / self.each, accuracy)
        for helper in self.helpers():
            os.kill(helper, signal.SIGSTOP)
        self.model = model
        try:
            self.connection.send(told)
            said = self.connection.recv()
        finally:  # the benchmark may have ended
            for helper in self.helpers():
                os.kill(helper, signal.SIGCONT)
        assert said in (GO, END)
        self._began = time.perf_counter()


def take_part(connection: Connection, module: str, function: str, task: Task, turns: int, folder: Path) -> None:
    """Run a contender's process from its start to its end.

    Args:
        connection: to the benchmark.
        module: below `benchmarks.contenders`.
        function: of that module, `(task, gate)`; it trains `gate.epochs` epochs.
        task: what to train.
        turns: the number of turns.
        folder: the contender's working folder; its output goes to `log` there.
    """
    os.chdir(folder)
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "MLFLOW_DISABLE_TELEMETRY": "true"}
    try:
        import torch

        if task.threads is not None:
            torch.set_num_threads(task.threads)
        torch.manual_seed(0)
        gate = Gate(connection, turns, task.recipe.epochs)
        getattr(importlib.import_module(f"benchmarks.contenders.{module}"), function)(task, gate)
        connection.send(Final(accuracy(gate.model, task, gate.shape), torch.get_num_threads(), gate.note))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        connection.close()


def accuracy(model: Any, task: Task, shape: tuple[int, ...] | None) -> float:
    """Return the share of the validation rows that a trained model classifies correctly."""
    import torch

    rows = task.floats()
    x, y = rows["x_valid"].view(-1, *(shape or task.recipe.shape)), rows["y_valid"]
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(xb).argmax(dim=1) for xb in torch.split(x, VALID_BATCH_SIZE)])
    return float((found == y).float().mean())
