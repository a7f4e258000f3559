"""Measure eight trainings at once against one after the other: `hydra/launcher=joblib` and the basic launcher.

Each side is one whole command, from start to exit: `cnn_adaptive` on `mnist_5k` with eight seeds, tracked in MLflow,
one thread per job on both sides, so both give the same bits. The ratio of the seconds is reported; on two cores, the
closer it is to a half the better.

    python benchmarks/parallel.py
    python benchmarks/parallel.py --epochs 2 --pairs 1      # to try it
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks import pairs
else:
    import pairs

LAUNCHERS = ("joblib", "basic")


def main() -> None:
    """Measure, print, keep."""
    parser = pairs.parser(__doc__, pairs=5, what="commands of each kind")
    parser.add_argument("--epochs", type=int, default=40, help="of each training (default 40)")
    parser.add_argument("--jobs", type=int, default=8, help="how many trainings (default 8)")
    parser.add_argument("--workers", type=int, default=2, help="how many at once (default 2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        count = 0

        def sweep(launcher: str) -> float:
            nonlocal count
            count += 1
            folder = Path(scratch) / f"{launcher}-{count}"
            folder.mkdir()
            seeds = ",".join(map(str, range(options.jobs)))
            took = pairs.seconds(
                [
                    *("-m", "experiments", "-m", f"hydra/launcher={launcher}", "device=cpu", "device.threads=1"),
                    *("model=cnn_adaptive", "optim=sgd_momentum", "dataset=mnist_5k", f"epochs={options.epochs}"),
                    *(f"seed={seeds}", "figures=false"),
                    *([f"hydra.launcher.n_jobs={options.workers}"] if launcher == "joblib" else []),
                ],
                folder,
            )
            pairs.settle(folder)
            return took

        found = pairs.in_turn(lambda: sweep("joblib"), lambda: sweep("basic"), options.pairs)
    print(pairs.told(f"{options.jobs} jobs, {options.workers} at once", found, "s", names=LAUNCHERS))
    pairs.keep(options.json, {"epochs": options.epochs, "jobs": options.jobs, **pairs.kept(found, names=LAUNCHERS)})


if __name__ == "__main__":
    main()
