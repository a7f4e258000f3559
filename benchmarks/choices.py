"""Measure what each choice of the default path gains: an epoch of the runner as it is, against one without that choice.

Both take turns in one process, one epoch each, with the same number of threads. Validation and journal are included.
One pair warms up first. A ratio is default / undone of a pair: below 1 the default is faster.

    python benchmarks/choices.py --source data/mnist/mnist.pkl.gz
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from experiments.config.check import configured
from experiments.runs import preparation
from experiments.tracking.journal import Journal
from experiments.training import device

if TYPE_CHECKING:
    from benchmarks import pairs
else:
    import pairs

LOGISTIC = ("model=logistic",)
CNN = ("model=cnn_adaptive", "optim=sgd_momentum")
UNDONE = {
    "logistic, in_memory": (LOGISTIC, "loader=dataloader"),
    "logistic, fused": (LOGISTIC, "optim.fused=false"),
    "cnn_adaptive, in_memory": (CNN, "loader=dataloader"),
    "cnn_adaptive, channels_last": (CNN, "device.channels_last=false"),
    "cnn_adaptive, fused": (CNN, "optim.fused=false"),
    "cnn_adaptive, float32": (CNN, "device.precision=bf16"),  # not undone, but it answers the same question
}


def main() -> None:
    """Print a line for each choice."""
    parser = pairs.parser(__doc__, pairs=7, what="epochs of each kind")
    parser.add_argument("--only", nargs="+", choices=UNDONE, default=list(UNDONE), help="only these")
    options = parser.parse_args()
    source = f"dataset.source='{pairs.source(options)}'"
    content = {}
    for label in options.only:
        chosen, other = UNDONE[label]
        with tempfile.TemporaryDirectory(prefix="choices-") as first, tempfile.TemporaryDirectory() as second:
            default, undone = epoch([*chosen, source], Path(first)), epoch([*chosen, source, other], Path(second))
            found = pairs.in_turn(default, undone, options.pairs)
        content[label] = {"undone": other, **pairs.kept(found, names=("default", "undone"))}
        print(f"{pairs.told(label, found, 's', names=('default', 'undone'))}  {other}", flush=True)
    pairs.keep(options.json, content)


def epoch(overrides: list[str], folder: Path) -> Callable[[], float]:
    """Return the seconds of the next epoch of a run, assembled as from the command line and recorded in a journal."""
    root = configured(overrides).root
    device.set_up(root.device, deterministic=root.deterministic)
    prepared = preparation.prepare(root, overrides)
    runner = prepared.runner(folder)
    record = Journal(folder).metrics

    def next_epoch() -> float:
        number, began = len(runner.history), perf_counter()
        runner.history.append(runner.run_epoch(number))
        record(runner.history[-1], number)
        return perf_counter() - began

    return next_epoch


if __name__ == "__main__":
    main()
