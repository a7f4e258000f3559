"""Measure bf16 against float32: an epoch of the adaptive network, and the final losses, seed by seed.

For each seed there is one tracked run with `device.precision=bf16` and one with float32, in turn, each a separate
command, on the whole MNIST. The time of an epoch is the median of a run's epochs from the fourth on, by its journal; a
ratio is bf16 / float32 of one seed. The final validation losses are compared as samples: the distance of bf16's mean
from float32's, in standard deviations of float32's over the seeds.

    python benchmarks/half_precision.py --source data/mnist/mnist.pkl.gz
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean, median, stdev
from typing import TYPE_CHECKING

from tests.support import raw_journal

from experiments.tracking import journal

if TYPE_CHECKING:
    from benchmarks import pairs
else:
    import pairs

RUN = ["model=cnn_adaptive", "optim=sgd_momentum", "figures=false"]
NAMES = ("bf16", "fp32")
STEADY = 3  # epochs before those that count


def main() -> None:
    """Print the time of an epoch, and the distance of the losses."""
    parser = pairs.parser(__doc__, pairs=10, what="seeds, a run of each precision with every one")
    parser.add_argument("--epochs", type=int, default=6, help="of a run (default 6)")
    options = parser.parse_args()
    if options.epochs <= STEADY:
        parser.error(f"--epochs must be above {STEADY}")
    source = f"dataset.source='{pairs.source(options)}'"
    losses: dict[str, list[float]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory(prefix="half-precision-") as name:
        folder = Path(name)
        pairs.python(["-m", "experiments", source, "limit_batches=1", "epochs=1"], folder)  # creates cache and store

        def seconds(precision: str) -> float:
            run = [f"device.precision={precision}", f"seed={len(losses[precision])}", f"epochs={options.epochs}"]
            pairs.settle(folder)
            pairs.python(["-m", "experiments", *RUN, source, *run], folder)
            newest = max(folder.rglob(journal.FILE), key=lambda path: path.stat().st_mtime)
            series = raw_journal.summary(newest.parent)["series"]
            losses[precision].append(series["valid/loss"][-1])
            return float(median(series["time/epoch_seconds"][STEADY:]))

        found = pairs.in_turn(lambda: seconds("bf16"), lambda: seconds("fp32"), options.pairs)
        pairs.settle(folder)
    counted = {name: kept[1:] for name, kept in losses.items()}
    apart = (mean(counted["bf16"]) - mean(counted["fp32"])) / stdev(counted["fp32"])
    print(pairs.told("an epoch", found, "s", names=NAMES))
    told = "  ".join(f"{name} {mean(kept):.4f} (sd {stdev(kept):.4f})" for name, kept in counted.items())
    print(f"{'final valid/loss':22} {told}  {apart:+.2f} sd of fp32 apart, {options.pairs} seeds")
    pairs.keep(options.json, {"epochs": options.epochs, **pairs.kept(found, names=NAMES), "valid_loss": counted})


if __name__ == "__main__":
    main()
