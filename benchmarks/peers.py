"""Measure an epoch of this package against a tight loop, the tutorial's loop and other trainers, on the same task.

Ours is a run as a user has it: the default configuration, tracked in MLflow in a SQLite store, with its uploader.
`tight` is a bare loop that does the minimum, `plain` the tutorial's; the others are each written as in their
documentation, without progress bars (benchmarks/contenders/). Two models on all of MNIST: 50,000 rows in
shuffled batches of 64, then 10,000 validated, float32, on the CPU, with the same number of threads.

Each contender runs in a separate process and trains continuously. All are paused except the one whose turn it is. A
turn takes about two seconds: five epochs of the logistic model, one of the CNN. A pair is a turn of ours and one of the
other directly after it, or in every second round directly before it. An epoch lasts from its start to the start of the
next one, logs and checkpoints included. The first three epochs of each, or the first turn, warm up and are not counted.
At the end each model's validation accuracy is computed in the same way, and must be that of a trained model.

    pip install -c constraints.txt -r benchmarks/requirements.txt -e .
    python -m benchmarks.peers --source data/mnist/mnist.pkl.gz
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.contenders.gate import END, GO, Final, Told, take_part
from benchmarks.contenders.task import RECIPES, Task, keep_rows

NOT_THEIRS = ("MLFLOW_", "EXPERIMENTS_", "HYDRA_")  # settings of the user
PARTING_SECONDS = 30.0
SAME = 1e-4  # two computations of one accuracy over 10,000 rows may differ by the rounding of a float32 mean


@dataclass(frozen=True)
class Contender:
    """A participant.

    Args:
        title: in the plot.
        where: module and function below `benchmarks.contenders`.
        package: that must be installed.
    """

    title: str
    where: tuple[str, str]
    package: str = "torch"


OURS = "ours"
CONTENDERS = {
    OURS: Contender("this framework, in MLflow", ("product", "ours"), "experiments"),
    "tight": Contender("tight loop", ("loops", "tight")),
    "plain": Contender("the tutorial's loop", ("loops", "plain")),
    "fabric": Contender("Lightning Fabric", ("lightning", "fabric"), "lightning"),
    "accelerate": Contender("Accelerate", ("accelerate", "train"), "accelerate"),
    "ignite": Contender("Ignite", ("ignite", "train"), "pytorch-ignite"),
    "skorch": Contender("skorch", ("skorch", "train"), "skorch"),
    "mmengine": Contender("MMEngine", ("mmengine", "train"), "mmengine"),
    "lightning": Contender("Lightning", ("lightning", "without_logger"), "lightning"),
    "lightning_mlflow": Contender("Lightning, in MLflow", ("lightning", "with_mlflow"), "lightning"),
    "keras": Contender("Keras 3 on torch", ("keras", "train"), "keras"),
}
OTHERS = [name for name in CONTENDERS if name != OURS]


class Process:
    """A contender's process, as the benchmark sees it."""

    def __init__(self, name: str, task: Task, turns: int, folder: Path) -> None:
        self.name, self.folder = name, folder
        folder.mkdir()
        spawning = multiprocessing.get_context("spawn")
        self.connection, other = spawning.Pipe()
        given = (other, *CONTENDERS[name].where, task, turns, folder)
        self.process = spawning.Process(target=take_part, args=given)
        self.process.start()
        other.close()
        self.answer()  # it is ready to start

    def answer(self) -> Any:
        """Return its next message."""
        try:
            return self.connection.recv()
        except EOFError:
            log = (self.folder / "log").read_text(encoding="utf-8", errors="replace")
            raise SystemExit(f"{self.name} ended too early:\n{log[-2000:]}") from None

    def turn(self) -> float:
        """Run one turn; return the seconds of an epoch in it."""
        self.connection.send(GO)
        told = self.answer()
        assert isinstance(told, Told)
        self.accuracy = told.accuracy
        return told.seconds

    def end(self) -> Final:
        """Let it finish; return its final report."""
        self.connection.send(END)
        final = self.answer()
        assert isinstance(final, Final)
        self.process.join()
        return final


def main() -> None:
    """Measure, print a line for each contender, keep the results and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="for each contender and model (default 7)")
    parser.add_argument("--warm-up", type=int, default=3, help="epochs of each before them, in whole turns (default 3)")
    parser.add_argument("--source", type=Path, help="a local mnist.pkl.gz; otherwise it is downloaded")
    parser.add_argument("--threads", type=int, help="of torch, for all (default: torch's default)")
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=list(RECIPES), help="only these")
    parser.add_argument("--only", nargs="+", choices=OTHERS, default=OTHERS, help="only these against ours")
    parser.add_argument("--json", type=Path, help="keep every pair's seconds here")
    parser.add_argument("--picture", type=Path, help="draw the ratios here")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a clean exit: no process, no folder stays
    others = [name for name in options.only if installed(name)]
    for name in [name for name in os.environ if name.startswith(NOT_THEIRS)]:
        del os.environ[name]
    kept: dict[str, Any] = {"machine": machine(options.threads), "versions": versions([OURS, *others])}
    kept |= {"problems": [], "models": {}}
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        keep_rows(Path(scratch), options.source.resolve() if options.source else None)
        for model in options.models:
            task = Task(model, Path(scratch), options.threads)
            found = measure(task, others, options.pairs, options.warm_up)
            kept["models"][model] = found["contenders"]
            kept["problems"] += found["problems"]
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if options.picture:
        from benchmarks.contenders.picture import draw

        draw(kept, {name: contender.title for name, contender in CONTENDERS.items()}, options.picture)
    if kept["problems"]:
        raise SystemExit("the results are invalid: " + "; ".join(kept["problems"]))


def measure(task: Task, others: Sequence[str], pairs: int, warm_up: int) -> dict[str, Any]:
    """Measure and print all pairs of one model; return them by contender."""
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in others}
    warm_up = ceil(warm_up / task.recipe.epochs)
    with started(task, others, pairs, warm_up) as processes:
        for process in processes.values():
            for _ in range(warm_up):
                process.turn()
        for number in range(pairs):
            for name in others:
                order = [OURS, name] if number % 2 == 0 else [name, OURS]
                taken = {one: processes[one].turn() for one in order}
                seconds[name].append({"ours": taken[OURS], "it": taken[name]})
        finals = {name: process.end() for name, process in processes.items()}
    own = finals[OURS]
    print(f"{task.model}: {own.threads} threads; ours: accuracy {own.accuracy:.4f}, {own.note}")
    kept: dict[str, Any] = {OURS: {"accuracy": own.accuracy, "threads": own.threads}}
    for name in sorted(others, key=lambda name: median(pair["it"] for pair in seconds[name])):
        kept[name] = {"accuracy": finals[name].accuracy, "pairs": seconds[name]}
        ratios = [pair["ours"] / pair["it"] for pair in seconds[name]]
        print(
            f"  {name:17} {median(pair['it'] for pair in seconds[name]):7.3f} s  "
            f"ours {median(pair['ours'] for pair in seconds[name]):7.3f} s  "
            f"ours / it {median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f}; {len(ratios)} pairs)  "
            f"accuracy {finals[name].accuracy:.4f}",
            flush=True,
        )
    for problem in (problems := list(found_wrong(task, processes, finals))):
        print(f"  {problem}", flush=True)
    return {"contenders": kept, "problems": problems}


@contextmanager
def started(task: Task, others: Sequence[str], pairs: int, warm_up: int) -> Iterator[dict[str, Process]]:
    """Start every contender's process, up to the gate of its first epoch; end all of them on exit."""
    processes: dict[str, Process] = {}
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        try:
            for name in (OURS, *others):
                turns = warm_up + pairs * (len(others) if name == OURS else 1)
                processes[name] = Process(name, task, turns, Path(scratch, name))
            yield processes
        finally:
            for process in processes.values():
                process.connection.close()
            for process in processes.values():
                process.process.join(PARTING_SECONDS)
                process.process.kill()
                process.process.join()


def found_wrong(task: Task, processes: dict[str, Process], finals: dict[str, Final]) -> Iterator[str]:
    """Report every contender that did not train and validate, or used another number of threads."""
    for name, final in finals.items():
        if final.accuracy < task.recipe.accuracy:
            yield f"{name} did not train: accuracy {final.accuracy:.4f}, {task.recipe.accuracy} is expected"
        own = processes[name].accuracy
        if own is not None and abs(own - final.accuracy) > SAME:
            yield f"{name} reports a validation accuracy of {own:.4f}; it is {final.accuracy:.4f}"
    threads = {name: final.threads for name, final in finals.items()}
    if len(set(threads.values())) > 1:
        yield f"the contenders have different numbers of threads: {threads}"


def installed(name: str) -> bool:
    """Return whether a contender can take part; print why if it cannot."""
    package = CONTENDERS[name].package
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        print(f"{name} is left out: {package} is not installed (pip install -r benchmarks/requirements.txt)")
        return False
    return True


def versions(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of all participants."""
    packages = {"torch", "mlflow", *(CONTENDERS[name].package for name in names)}
    return {package: metadata.version(package) for package in sorted(packages)} | {"python": platform.python_version()}


def machine(threads: int | None) -> dict[str, Any]:
    """Return a description of the machine."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "threads": "torch's own" if threads is None else threads,
    }


def processor() -> str:
    """Return the processor's name, as far as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


if __name__ == "__main__":
    main()
