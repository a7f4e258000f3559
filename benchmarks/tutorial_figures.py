"""Check that the stages reach the metrics that the tutorial prints.

Trains the fourteen stages with many seeds, each as a user would (`experiments.run`), and prints a Markdown table. The
printed metrics come from unseeded runs, so each should be between our 1st and 99th percentile. Few seeds give no such
percentile; then it should be within 4 robust standard deviations (1.48 x the median absolute deviation) of our median.
A seed takes one to two minutes on one core. The exit code is 1 if a printed metric is outside.

    python benchmarks/tutorial_figures.py --source data/mnist/mnist.pkl.gz --json figures.json
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
from tests.support import raw_journal

import experiments
from experiments.config import compose
from experiments.runs import tables

# By name, the values in the order of their epochs.
Figures = dict[str, list[float]]
# By seed, then by stage; the seed is text, as in JSON.
Trained = dict[str, dict[str, Figures]]

STAGES = sorted(Path(file.name).stem for file in resources.files("experiments.conf").joinpath("stage").iterdir())
HEADERS = ["stage", "metric", "tutorial", "median", "min", "max", "1st-99th percentile", "robust sd", "verdict"]
ROBUST = 1.48  # times the median absolute deviation: the standard deviation, for a normal distribution
WIDEST = 4  # robust standard deviations
OUTSIDE = "OUTSIDE"


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12, help="train with the seeds 0 .. SEEDS-1 (default 12)")
    parser.add_argument("--source", type=Path, help="a local mnist.pkl.gz; otherwise it is downloaded")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default 1)")
    parser.add_argument("--json", type=Path, help="keep the raw metrics here; seeds in it are not trained again")
    options = parser.parse_args()
    # A handler that prints nothing keeps the runs' lines off the terminal.
    logging.getLogger().addHandler(logging.NullHandler())
    overrides = ["tracking=none", "figures=false", f"device.threads={options.threads}"]
    if options.source:
        overrides.append(f"dataset.source='{options.source.resolve()}'")
    trained: Trained = {}
    if options.json and options.json.is_file():
        trained = json.loads(options.json.read_text(encoding="utf-8"))
    for seed in range(options.seeds):
        if str(seed) in trained:
            continue
        trained[str(seed)] = train(seed, overrides)
        if options.json:
            keep(trained, options.json)
        print(f"seed {seed} is trained", file=sys.stderr, flush=True)
    table = list(rows([trained[str(seed)] for seed in range(options.seeds)]))
    print(tables.table([dict(zip(HEADERS, row, strict=True)) for row in table], markdown=True))
    sys.exit(any(row[-1].startswith(OUTSIDE) for row in table))


def train(seed: int, overrides: list[str]) -> dict[str, Figures]:
    """Return every stage's recorded metrics with one seed; stage 13 starts from this seed's stage 12."""
    figures = {}
    with tempfile.TemporaryDirectory(prefix="tutorial-figures-") as output_root:
        for stage in STAGES:
            result = experiments.run([*overrides, f"stage={stage}", f"seed={seed}", f"output_root='{output_root}'"])
            assert result.folder is not None
            figures[stage] = raw_journal.summary(result.folder)["series"]
    return figures


def keep(trained: Trained, path: Path) -> None:
    """Write the raw metrics, completely or not at all."""
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(json.dumps(trained, indent=1), encoding="utf-8")
    temporary.replace(path)


def rows(seeds: list[dict[str, Figures]]) -> Iterator[list[str]]:
    """Yield the table's rows: one for each printed metric, with one for each epoch if there are two."""
    for stage in STAGES:
        for name, printed in compose.compose([f"stage={stage}"]).tutorial.prints.items():
            epochs = [printed] if isinstance(printed, float) else list(printed)
            for epoch, figure in enumerate(epochs):
                label = name if len(epochs) == 1 else f"{name}, epoch {epoch}"
                yield [stage, label, *compare(figure, np.array([seed[stage][name][epoch] for seed in seeds]))]


def compare(printed: float, ours: np.ndarray) -> list[str]:
    """Return a printed metric, ours over the seeds (seeds,), and the verdict."""
    median = float(np.median(ours))
    sd = ROBUST * float(np.median(np.abs(ours - median)))
    low, high = np.percentile(ours, [1, 99])
    if low <= printed <= high:
        verdict = "within percentiles"
    else:
        near = abs(printed - median) <= WIDEST * sd
        verdict = f"within {WIDEST} robust sd" if near else OUTSIDE
        if sd:
            verdict += f" ({(printed - median) / sd:+.1f})"
        if not ours.min() <= printed <= ours.max():
            verdict += "; outside [min, max]"
    numbers = [f"{number:.4f}" for number in (printed, median, ours.min(), ours.max())]
    return [*numbers, f"{low:.4f}-{high:.4f}", f"{sd:.4f}", verdict]


if __name__ == "__main__":
    main()
