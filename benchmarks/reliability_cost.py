"""Measure the cost of never losing a run: the time in journal, checkpoint and fsync calls, and the uploader's start.

Each run is stage 12 on the whole data, in a separate process, in an empty folder. The first part times every call to
the journal and the checkpoints (their fsync included) and divides it by the time of the epochs. The second part
compares, in turn, a first epoch with MLflow, whose uploader starts beside it, with one without.

    python benchmarks/reliability_cost.py --source data/mnist/mnist.pkl.gz
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from tests.support import raw_journal

STAGE = "stage=12_wrapped_dataloader"


def main() -> None:
    """Print the shares and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="first epochs of each kind (default 5)")
    parser.add_argument("--source", default="data/mnist/mnist.pkl.gz", help="the packed MNIST")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(_timed(given.overrides)))
        return
    source = f"dataset.source={Path(given.source).resolve()}"
    tracked = _clocked(source)
    epochs, inside = tracked["epochs"], tracked["inside"]
    print(f"epochs of stage 12: {', '.join(f'{seconds:.2f} s' for seconds in epochs)}")
    for name, seconds in inside.items():
        print(f"  {name:30} {1000 * seconds:7.1f} ms  {100 * seconds / sum(epochs):6.3f} % of the epochs")
    print(f"  {'uploader, processor time':30} {tracked['uploader']:7.2f} s")
    ratios = []
    for _ in range(given.pairs):
        with_mlflow, without = (_first_epoch(source, f"tracking={name}") for name in ("mlflow", "none"))
        ratios.append(with_mlflow / without)
    spread = f"{min(ratios):.3f}-{max(ratios):.3f}"
    print(f"first epoch with MLflow / without, {given.pairs} pairs: {median(ratios):.3f} ({spread})")


def _clocked(*overrides: str) -> dict[str, Any]:
    """Run one training with MLflow in a separate process and folder, with its calls timed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).resolve()), "--inside", STAGE, "figures=false", *overrides]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _first_epoch(*overrides: str) -> float:
    """Return the seconds of the first epoch of a run from the command line."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments", STAGE, "figures=false", *overrides]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (path,) = Path(folder).glob("outputs/runs/*/*")
        return float(raw_journal.summary(path)["series"]["time/epoch_seconds"][0])


def _timed(overrides: list[str]) -> dict[str, Any]:
    """Train, and time the calls that store the run."""
    import experiments
    from experiments.tracking import client
    from experiments.tracking.journal import Journal
    from experiments.training.checkpoint import Checkpoints

    inside = {"journal": 0.0, "checkpoints": 0.0}

    def clocked(owner: type, method: str, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, method)

        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                inside[name] += time.perf_counter() - start

        setattr(owner, method, call)

    clocked(Journal, "_append", "journal")
    clocked(Checkpoints, "save", "checkpoints")
    clocked(Checkpoints, "save_best", "checkpoints")
    result = experiments.run(overrides)
    assert "mlflow" not in sys.modules, "the training process imports MLflow"
    client.close_all()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "epochs": [figures["time/epoch_seconds"] for figures in result.history],
        "inside": inside,
        "uploader": children.ru_utime + children.ru_stime,
    }


if __name__ == "__main__":
    main()
