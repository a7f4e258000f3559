"""Measure the overhead of a sweep's next job, beside its training and Hydra, and of an epoch, beside its steps.

A job: multiruns of 100 tiny jobs and of one, tracked in MLflow, from start to exit, against an empty Hydra task over
the same configuration with the same jobs, where Hydra calls no code of ours. The overhead in milliseconds per job is

    (ours(100) - ours(1)) / 99 - (empty(100) - empty(1)) / 99 - training

where training is the journals' `time/epoch_seconds`, one step and one validation batch. It includes the check of every
job before the first, the job's folder and journal, the uploader beside it, and the wait at the end until all runs are
in MLflow. With `--figures` each job also leaves the file from which its plots are drawn; the drawing itself follows the
sweep, and makes the measurement long.

An epoch: a tracked run of 200 tiny epochs and one of one epoch, from start to exit, against the same steps and
validations in a bare loop, whose process measures its time itself:

    (ours(200) - ours(1)) / 199 - bare

It includes metrics and sums, journal (synced), checkpoint, terminal, and MLflow. All trainings here use one thread,
because steps so tiny have no work for two.

    python benchmarks/sweep_overhead.py
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from tests.support import raw_journal

from experiments.runs import sweep_plan
from experiments.tracking import journal

if TYPE_CHECKING:
    from benchmarks import pairs
    from benchmarks.startup import EMPTY
else:
    import pairs
    from startup import EMPTY

TINY = ["dataset=synthetic", "dataset.train=64", "dataset.valid=64", "limit_batches=1", "device.threads=1"]
# Hydra's own sweeper, and no callback of ours.
ALONE = ["hydra/sweeper=basic", "~hydra.callbacks.experiments"]
# An epoch of TINY as a plain loop; the argument is the number of epochs.
BARE = """
import sys, time
import torch
import torch.nn.functional as F
from torch import nn, optim
torch.set_num_threads(1)
torch.manual_seed(0)
x, y = torch.randn(64, 784), torch.randint(0, 10, (64,))
model = nn.Linear(784, 10)
opt = optim.SGD(model.parameters(), lr=0.5, fused=True)
for epoch in range(int(sys.argv[1])):
    if epoch == 1:
        began = time.perf_counter()  # the first has loaded what torch loads late
    model.train()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    opt.zero_grad()
    train_loss = loss.item()
    model.eval()
    with torch.no_grad():
        valid_loss = F.cross_entropy(model(x), y).item()
print((time.perf_counter() - began) / epoch)
"""


def main() -> None:
    """Print milliseconds per job and per epoch."""
    parser = pairs.parser(__doc__, pairs=7, what="measurements of each kind")
    parser.add_argument("--jobs", type=int, default=100, help="of a sweep (default 100)")
    parser.add_argument("--epochs", type=int, default=200, help="of a run (default 200)")
    parser.add_argument("--only", choices=["job", "epoch"], help="only this one")
    parser.add_argument("--figures", action="store_true", help="with plots of each job of a sweep")
    options = parser.parse_args()
    content: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="sweep-overhead-") as name:
        folder = Path(name)
        pairs.python(["-m", "experiments", *TINY, "epochs=1"], folder)  # creates the store
        if options.only != "epoch":
            content["job"] = job(folder, options)
        if options.only != "job":
            content["epoch"] = epoch(folder, options.epochs, options.pairs)
    pairs.keep(options.json, content)


def job(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the milliseconds of each further job: ours, an empty one, its training, and the rest."""
    jobs: int = options.jobs
    tiny = [*TINY, "epochs=1", f"figures={str(options.figures).lower()}"]
    empty = folder / "empty.py"
    empty.write_text(EMPTY, encoding="utf-8")
    training: list[float] = []

    def ours() -> float:
        many, one = (tracked(folder, ["-m", *tiny, f"seed=range({count})"]) for count in (jobs, 1))
        training.append(1000 * mean(trained(folder, jobs)))
        return 1000 * (many - one) / (jobs - 1)

    def hydra() -> float:
        command = [str(empty), "-m", *ALONE, *tiny]
        many, one = (pairs.seconds([*command, f"seed=range({count})"], folder) for count in (jobs, 1))
        return 1000 * (many - one) / (jobs - 1)

    found = pairs.in_turn(ours, hydra, options.pairs)
    left = [a - b - train for (a, b), train in zip(found, training[1:], strict=True)]
    print(pairs.told("a further job", found, "ms", names=("ours", "empty")))
    print(f"{'':22} training {median(training[1:]):.1f} ms  overhead {pairs.spread(left, 1)} ms", flush=True)
    return {**pairs.kept(found, names=("ours", "empty")), "training_ms": training[1:], "overhead_ms": left}


def epoch(folder: Path, epochs: int, number: int) -> dict[str, Any]:
    """Return the milliseconds of each further epoch: ours, a bare loop's, and the rest."""

    def ours() -> float:
        many, one = (tracked(folder, [*TINY, f"epochs={count}"]) for count in (epochs, 1))
        return 1000 * (many - one) / (epochs - 1)

    def bare() -> float:
        return 1000 * float(pairs.python(["-c", BARE, str(epochs)], folder).stdout)

    found = pairs.in_turn(ours, bare, number)
    left = [a - b for a, b in found]
    print(pairs.told("a further epoch", found, "ms", names=("ours", "bare")))
    print(f"{'':22} overhead {pairs.spread(left, 2)} ms", flush=True)
    return {**pairs.kept(found, names=("ours", "bare")), "overhead_ms": left}


def trained(folder: Path, jobs: int) -> list[float]:
    """Return the seconds of the training in each job of the newest sweep with this many jobs."""
    sweeps = [plan.parent for plan in folder.glob(f"outputs/sweeps/*/*/{sweep_plan.PLAN}")]
    plans = {path: json.loads((path / sweep_plan.PLAN).read_text(encoding="utf-8")) for path in sweeps}
    sweep = max(path for path, plan in plans.items() if len(plan["listed"]) == jobs)
    summaries = [raw_journal.summary(path.parent) for path in sweep.glob(f"*/{journal.FILE}")]
    if [summary["status"] for summary in summaries] != ["FINISHED"] * jobs:
        raise SystemExit(f"not all jobs of {sweep.name} are FINISHED")
    return [sum(summary["series"]["time/epoch_seconds"]) for summary in summaries]


def tracked(folder: Path, arguments: list[str]) -> float:
    """Return the seconds of the command line with these overrides, with no process of an earlier one beside it."""
    pairs.settle(folder)
    seconds = pairs.seconds(["-m", "experiments", *arguments], folder)
    pairs.settle(folder)
    return seconds


if __name__ == "__main__":
    main()
