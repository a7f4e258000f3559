"""Measure what the doctor costs: its look at a run's journal, at the data and a first batch, and at a whole run.

The journal's is set against an epoch of the same run. The last part compares, in turn, whole runs as they are by
default with runs without doctor and without `code.patch`.

    python -m benchmarks.doctor_cost --source data/mnist/mnist.pkl.gz
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks import pairs
from tests.support import raw_journal

import experiments
from experiments.doctor import advice, examine

STAGE = ("stage=12_wrapped_dataloader", "tracking=none")
LESS = ("doctor=off", "tracking.patch=false")


def main() -> None:
    """Print the times and the ratio."""
    parser = pairs.parser(__doc__, pairs=7, what="whole runs of each kind")
    options = parser.parse_args()
    chosen = [*STAGE, f"dataset.source='{pairs.source(options)}'"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "run")
        with contextlib.redirect_stdout(io.StringIO()):
            experiments.run([*chosen, f"hydra.run.dir={folder}", f"output_root={place}"])
        epoch = median(raw_journal.summary(folder)["series"]["time/epoch_seconds"])
        journal = median(_seconds(lambda: advice(folder)) for _ in range(20))
        data = [_seconds(lambda: examine(chosen)) for _ in range(5)]
    print(f"journal: {1000 * journal:.2f} ms, {journal / epoch:.3%} of an epoch of stage 12 ({epoch:.2f} s)")
    print(
        f"data and first batch: {median(data):.2f} s ({min(data):.2f} to {max(data):.2f}), MNIST loaded anew each time"
    )
    with tempfile.TemporaryDirectory() as place:
        number = iter(range(1000))

        def whole(*more: str) -> Callable[[], float]:
            command = ["-m", "experiments", *chosen, *more]
            return lambda: pairs.seconds([*command, f"hydra.run.dir={place}/{next(number)}"], Path(place))

        found = pairs.in_turn(whole(), whole(*LESS), options.pairs)
    print(pairs.told("a whole run", found, "s", names=("default", "without")))
    pairs.keep(options.json, {"journal": journal, "epoch": epoch, "data": data, **pairs.kept(found)})


def _seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
