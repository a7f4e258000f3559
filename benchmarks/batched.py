"""Time a sweep of 32 small trainings as one stack, in turn with Hydra's basic launcher and joblib.

4 learning rates and 8 seeds on the whole MNIST, tracked by MLflow: the whole command, from its start to the table, when
the metrics of all runs have arrived. Beside it the highest resident set of the command's own process. Further arguments
are overrides of each sweep.

    python -m benchmarks.batched --source data/mnist/mnist.pkl.gz --pairs 3 --json batched.json

On a card, with 8 processes that share it in joblib's place:

    python -m benchmarks.batched --ways batched basic slots device=cuda tracking=none figures=false
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks import pairs

EPOCHS = {"logistic": 10, "mlp": 5, "cnn_adaptive": 1}
RATES = "optim.lr=0.01,0.03,0.1,0.3"
WAYS = {
    "batched": ["hydra/launcher=batched"],
    "basic": ["hydra/launcher=basic"],
    "joblib": ["hydra/launcher=joblib"],
    "slots": ["hydra/launcher=slots", "hydra.launcher.per_card=8"],
}


def main() -> None:
    """Measure what the command line asks for."""
    parser = pairs.parser(__doc__, pairs=3, what="rounds of all ways")
    parser.add_argument("--models", nargs="+", default=["logistic", "mlp", "cnn_adaptive"], help="which models")
    parser.add_argument(
        "--ways", nargs="+", default=["batched", "basic", "joblib"], choices=WAYS, help="which launchers"
    )
    parser.add_argument("--epochs", type=int, help=f"of each training (default {EPOCHS})")
    parser.add_argument("--seeds", type=int, default=8, help="with each of four learning rates (default 8: 32 jobs)")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of each sweep")
    options = parser.parse_intermixed_args()
    found: dict[str, Any] = {"card": torch.cuda.get_device_name()} if "device=cuda" in options.overrides else {}
    for model in options.models:
        epochs = options.epochs or EPOCHS.get(model, 5)
        given = [f"model={model}", "dataset=mnist", f"dataset.source={pairs.source(options)}", f"epochs={epochs}"]
        swept = [RATES, f"seed=range({options.seeds})", *options.overrides]
        rounds = [{way: measured([*WAYS[way], *given, *swept]) for way in options.ways} for _ in range(options.pairs)]
        found[model] = {"epochs": epochs, "jobs": 4 * options.seeds, "given": options.overrides, "rounds": rounds}
        told(model, epochs, rounds)
    pairs.keep(options.json, found)


def measured(arguments: list[str]) -> dict[str, Any]:
    """Run one sweep in a folder of its own; return its seconds, its memory and what was said of stacks."""
    with tempfile.TemporaryDirectory() as place, (Path(place) / "said.txt").open("w+") as said:
        command = [sys.executable, "-m", "experiments", "-m", *arguments]
        began = time.perf_counter()
        started = subprocess.Popen(command, cwd=place, env=pairs.ENVIRONMENT, stdout=said, stderr=said)
        _, status, usage = os.wait4(started.pid, 0)
        seconds = time.perf_counter() - began
        started.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read()
        if started.returncode:
            raise SystemExit(lines[-2000:])
        pairs.settle(Path(place))
    print(f"{arguments[0]}  {seconds:.1f} s", file=sys.stderr, flush=True)
    return {
        "seconds": seconds,
        "peak_mb": usage.ru_maxrss / 1024,
        "said": re.findall(r"^jobs? .* trained .*$", lines, re.MULTILINE),
    }


def told(model: str, epochs: int, rounds: list[dict[str, Any]]) -> None:
    """Print the seconds of each way, and how many times as fast the first is."""
    first = next(iter(rounds[0]))
    for way in rounds[0]:
        seconds = [one[way]["seconds"] for one in rounds]
        ratios = [one[way]["seconds"] / one[first]["seconds"] for one in rounds]
        gain = "" if way == first else f"  {first} is faster by {pairs.spread(ratios, 2)}"
        peak = max(one[way]["peak_mb"] for one in rounds)
        print(
            f"{model:13} {epochs:3} epochs  {way:8} {min(seconds):7.1f} to {max(seconds):.1f} s  {peak:6.0f} MB{gain}"
        )
    for line in rounds[0][first]["said"]:
        print(f"{'':13} {line}")


if __name__ == "__main__":
    main()
