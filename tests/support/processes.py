"""Several processes that train together: forked off the tests' own as torchrun would start them, or by torchrun."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from experiments import ranks
from experiments.config.check import configured
from experiments.config.root import RootConfig
from experiments.runs import preparation
from experiments.training import device
from experiments.training.distributed import group as distributed
from experiments.training.distributed.step import JointStep
from experiments.training.runner import Runner
from experiments.training.step import EagerStep
from tests.support.forked import Ended, fork
from tests.support.resuming import TIMED

# Torch listens on every address else.
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}


def checked(*overrides: str) -> RootConfig:
    return configured(list(overrides)).root


def in_processes(world: int, action: Callable[[], Any], seconds: float = 60) -> list[Ended]:
    """Do it in so many processes, with the environment that torchrun gives."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world), **LOOPBACK}

    def as_one(rank: int) -> None:
        os.environ.update(given | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world)})
        action()

    children = [fork(partial(as_one, rank)) for rank in range(world)]
    # The first last: as torchrun does, this takes note of another's end while the first still runs.
    return [child.wait(seconds) for child in reversed(children)][::-1]


class Torchrun:
    """`torchrun -m ...` in a folder."""

    def __init__(self, folder: Path, *arguments: str, world: int = 2) -> None:
        self.said = folder / "said.txt"
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world), "-m", *arguments]
        environment = os.environ | LOOPBACK
        with self.said.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=folder, env=environment, stdout=out, stderr=out, text=True
            )

    def processes(self) -> dict[int, int]:
        """The process ids of the training's, by their number."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid:
                    variables = dict(
                        pair.split("=", 1) for pair in (path / "environ").read_text().split("\0") if "=" in pair
                    )
                    found[int(variables["RANK"])] = int(path.name)
        return found

    def wait(self, seconds: float = 200) -> int:
        return self.process.wait(seconds)

    def __enter__(self) -> Torchrun:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def trained(make: Callable[[distributed.Group | None], dict[str, Any]], file: Path) -> None:
    """Let one process, or each of several, come to something; the first keeps it."""
    with distributed.joined(lambda: torch.device("cpu")) as group:
        found = make(group)
        if not ranks.follows():
            file.write_text(json.dumps(found))


def in_float64(overrides: tuple[str, ...], group: distributed.Group | None) -> dict[str, Any]:
    """The figures of a training in float64, and its weights."""
    with device.settings_kept():
        runner = double(preparation.prepare(checked(*overrides), overrides, group).runner(None))
        result = runner.fit(checked(*overrides).epochs)
    history = [{name: value for name, value in figures.items() if name not in TIMED} for figures in result.history]
    weights = {name: tensor.tolist() for name, tensor in result.model.state_dict().items()}
    return {"untrained": result.untrained, "history": history, "weights": weights}


def double(runner: Runner) -> Runner:
    """The same in float64: its weights and each batch."""
    step = runner.step
    for p in step.update.params:
        p.data = p.data.double()
    own = {name: [Tensor.double, *getattr(step.forward, name)] for name in ("train_transforms", "valid_transforms")}
    forward = replace(step.forward, **own)  # type: ignore[arg-type]
    if isinstance(step, JointStep):
        runner.step = JointStep(forward, step.update, runner.train, rows_at_once=step.rows_at_once)
    else:
        runner.step = EagerStep(forward, step.update, rows_at_once=step.rows_at_once)
    return runner


def in_step(overrides: tuple[str, ...], group: distributed.Group | None) -> dict[str, Any]:
    """How far apart a joint step and one alone are, each from the same state: losses, and weights, the largest."""
    assert group is not None
    root = checked(*overrides)
    joint, alone = (preparation.prepare(root, overrides, one).runner(None) for one in (group, None))
    losses = weights = 0.0
    for epoch in range(root.epochs):
        joint.progress.step = alone.progress.step = 0
        for (_, yb, _, loss), (_, y, _, expected) in zip(
            joint.train_steps(epoch), alone.train_steps(epoch), strict=True
        ):
            total = torch.tensor(loss.item() * len(yb), dtype=torch.float64)
            group.exchange(dist.all_reduce, total)
            losses = max(losses, abs(total.item() / len(y) - expected.item()))
            differences = [
                (p - q).abs().max().item()
                for p, q in zip(joint.step.update.params, alone.step.update.params, strict=True)
            ]
            weights = max(weights, *differences)
            joint.model.load_state_dict(alone.model.state_dict())
            joint.optimizer.load_state_dict(
                copy.deepcopy(alone.optimizer.state_dict())
            )  # which would share its tensors
    return {"losses": losses, "weights": weights}


def numbers(found: Any) -> Iterator[float]:
    """Every number of nested dicts and lists, in order."""
    if isinstance(found, float | int):
        yield float(found)
        return
    for value in found.values() if isinstance(found, dict) else found:
        yield from numbers(value)


def farthest(one: Any, other: Any) -> float:
    """The largest difference of two numbers at the same place."""
    return max(abs(a - b) for a, b in zip(numbers(one), numbers(other), strict=True))
