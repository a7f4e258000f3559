"""`python -m experiments.evaluate RUN [OVERRIDE ...]`: measure a trained model again, on its own or other data.

RUN is a run's folder, its MLflow id or latest. Without overrides the metrics are those of the epoch that its weights
are of (the last, or the best where early_stopping restored it), bit for bit on the same machine; with
dataset=fashion_mnist, for example, those on other data that the model takes. Each is printed in full. With
--split test each look at the test rows is counted in the run, since nothing may be chosen by them. Where
early_stopping restored the best epoch and loader.valid_shuffle is on, they are means over the last epoch's batches.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import answer, cli
from experiments.runs.find import find, run_in
from experiments.runs.place import work_in

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Evaluation:
    """A model measured again.

    Args:
        run: the folder of the run.
        split: which rows.
        weights: of which epoch, the last or the best.
        overrides: of the run's settings.
        metrics: by name.
        test_looks: how often the run's test rows were looked at, with this one.
    """

    run: Path
    split: str
    weights: str
    overrides: Sequence[str]
    metrics: Mapping[str, float]
    test_looks: int


def main(arguments: list[str] | None = None) -> None:
    """Print the metrics; exit codes as those of a run."""
    parser = cli.parser("evaluate", __doc__, answers=True)
    parser.add_argument("run", metavar="RUN", help="a run's folder or MLflow id, or latest")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as on the command line of a run")
    parser.add_argument("--split", choices=SPLITS, default="valid", help="which rows (default: %(default)s)")
    parser.add_argument("--weights", choices=("last", "best"), default="last", help="of which epoch (default: last)")
    given = parser.parse_intermixed_args(arguments)
    cli.guarded(lambda: _evaluate(given), json=given.json)


def _evaluate(given: argparse.Namespace) -> None:
    folder = find(given.run)
    work_in(run_in(folder).start.place)
    from experiments.runs import ledger
    from experiments.runs.evaluation import evaluate  # needs torch

    metrics = evaluate(folder, given.overrides, split=given.split, weights=given.weights)
    looks = ledger.looks(folder)
    answer.give(Evaluation(folder, given.split, given.weights, given.overrides, metrics, looks))
    for name, value in metrics.items():
        print(name, repr(value))
    if given.split == "test":
        print(f"test rows of this run: looked at {looks} time{'s' * (looks != 1)}")


if __name__ == "__main__":
    main()
