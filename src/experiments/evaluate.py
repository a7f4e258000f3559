"""`python -m experiments.evaluate RUN [OVERRIDE ...]`: measure a trained model again, on its own or other data.

RUN is a run's folder or MLflow id. Without overrides the figures are those of the epoch that its weights are of (the
last, or the best where early_stopping went back to it), bit for bit on the same machine; with dataset=fashion_mnist,
say, those on other data that the model takes. Each is printed in full. Where early_stopping went back and
loader.valid_shuffle is on, they are means over the last epoch's batches, not the best one's.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experiments import cli
from experiments.errors import ConfigError, Fault
from experiments.runs.find import find, folder_of, run_in

if TYPE_CHECKING:
    from experiments.config.root import RootConfig
    from experiments.data.splits import DataSpec, Split, Splits
    from experiments.runs.load import Which
    from experiments.training.result import Result

SPLITS = ("train", "valid", "test")


def evaluate(
    run: str | Path | Result,
    overrides: Sequence[str] = (),
    *,
    split: Literal["train", "valid", "test"] = "valid",
    weights: Which = "last",
    output_root: str | Path = "outputs",
) -> dict[str, float]:
    """The loss and the metrics of a run's trained model over a split, by name (`valid/loss`).

    Args:
        run: its folder, its MLflow id, or what `experiments.run` gave.
        overrides: what is to be other than in the run: `["dataset=fashion_mnist", "device=cpu"]`.
        split: of the dataset.
        weights: those after the last epoch, or those of the best validation loss.
        output_root: where runs with an id are looked for.

    Raises:
        ConfigError: there is no such run, no such split or weights, or the dataset does not fit the model.
        DataError: the dataset cannot be had.
    """
    from experiments.runs import load
    from experiments.training import build
    from experiments.training import device as devices

    folder = folder_of(run, output_root)
    # No step is taken, which is what a graph would hold.
    root = load.configuration(folder, ["device.graph=false", *overrides])
    build.forget_dataset()
    with devices.settings_kept():
        device = devices.prepare(root.device, deterministic=root.deterministic)
        splits = build.load_dataset(root.dataset)
        rows = _rows(splits, split)
        _require_fit(root, load.data_spec(folder), splits.spec)
        # The rows stand in for training rows too, which nobody asked for and a loader might read.
        measured = dataclasses.replace(splits, train=rows, valid=rows)
        runner, epoch = load.trained_runner(folder, root, measured, device, weights)
        # An epoch's number is what a shuffled validation is ordered by.
        figures = runner.evaluate(epoch)
    return {f"{split}/{name}": value for name, value in figures.items()}


def main(arguments: list[str] | None = None) -> None:
    """Print the figures; exit codes as those of a run."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder or MLflow id")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as on the command line of a run")
    parser.add_argument("--split", choices=SPLITS, default="valid", help="which rows (default: %(default)s)")
    parser.add_argument("--weights", choices=("last", "best"), default="last", help="of which epoch (default: last)")
    given = parser.parse_intermixed_args(arguments)
    cli.guarded(lambda: _tell(given))


def _tell(given: argparse.Namespace) -> None:
    from experiments.resume import work_in

    folder = find(given.run)
    work_in(run_in(folder).start.place)
    for name, value in evaluate(folder, given.overrides, split=given.split, weights=given.weights).items():
        print(name, repr(value))


def _rows(splits: Splits, split: str) -> Split:
    rows: Split | None = getattr(splits, split)
    if rows is None:
        problem = f"dataset {splits.spec.name} has no {split} rows; available: {', '.join(splits.spec.sizes)}"
        raise ConfigError(Fault("split", problem))
    return rows


def _require_fit(root: RootConfig, trained: DataSpec, now: DataSpec) -> None:
    """See that a dataset's targets and size are those that the model was trained for; what is left, a batch tells."""
    from experiments.config.registry import register

    def said(spec: DataSpec) -> str:
        return f"{spec.outputs} {'classes' if spec.classes else 'real targets'}"

    def size(spec: DataSpec) -> str:
        return "x".join(map(str, spec.shape))

    if (trained.classes, trained.outputs) != (now.classes, now.outputs):
        problem = f"{now.name} has {said(now)}; the run's model was trained for {said(trained)} ({trained.name})"
        raise ConfigError(Fault("dataset", problem))
    flat = register.model.get(root.model["name"]).metadata.get("input") == "flat"
    if trained.shape[0] != now.shape[0] or (flat and trained.features != now.features):
        problem = f"{now.name} has pictures of {size(now)}; the run's model was trained on {size(trained)}"
        raise ConfigError(Fault("dataset", problem))


if __name__ == "__main__":
    main()
