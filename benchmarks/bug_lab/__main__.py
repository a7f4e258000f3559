"""Plant faults one by one, and count how often the doctor names them among its first two findings.

Each fault is planted into three models and trained with a few seeds; the doctor reads the run, its data and its first
steps. The same trainings without a fault, and the tutorial's stages, are healthy: whatever it finds there is a false
alarm. A row of the table: the fault, the rules that name it rightly, in how many trainings one of them was among the
first two findings, and what was found first where it was not.

    python -m benchmarks.bug_lab --seeds 5 --stage-seeds 10 --json bug_lab.json
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.bug_lab.healthy import MODELS, USUAL, trainings

import experiments
from experiments.doctor import examine
from experiments.errors import UserError

REFUSED = "refused before the first step"
QUIET = (
    "tracking=none",
    "figures=true",
    "doctor=off",
    "device.threads=1",
    "device=cpu",
    "checkpoint.every_epochs=null",
)


@dataclass(frozen=True)
class Fault:
    """What is planted, by overrides, and the rules that name it."""

    name: str
    overrides: tuple[str, ...]
    rules: tuple[str, ...]
    models: tuple[str, ...] = MODELS


def of_model(name: str, *rules: str) -> Fault:
    """Return a fault of the models."""
    return Fault(name, (f"model.fault={name}",), rules)


def of_data(name: str, *rules: str, more: tuple[str, ...] = ()) -> Fault:
    """Return a fault of the dataset."""
    return Fault(name, (f"dataset.fault={name}", *more), rules)


FAULTS = (
    of_model("softmax", "probabilities-before-loss"),
    of_model("softmax_rows", "probabilities-before-loss", "rows-mixed"),
    Fault("zero_grad forgotten", ("optim=lab_kept",), (REFUSED, "gradients-kept")),
    of_data("sorted", "sorted-labels", more=("loader.shuffle=false",)),
    of_data("permuted", "at-chance"),
    of_data("pixels", "input-scale", "first-loss"),
    Fault("lr x100", ("optim.lr=5",), ("update-too-large", "diverging", "not-finite", "worse-than-untrained")),
    Fault("lr /100", ("optim.lr=0.0005",), ("update-too-small", "creeping")),
    of_model("training", "mode-left", "noise-in-evaluation"),
    of_model("noise", "noise-in-evaluation"),
    of_model("frozen", "frozen"),
    of_data("duplicates", "rows-in-both"),
    of_data("one_hot", "one-hot-targets", more=("loss=mse", "metrics=none")),
    of_model("dead", "dead-relu", "constant-output"),
    Fault("weight decay x1000", ("optim.weight_decay=0.5",), ("weight-decay",)),
    Fault("batch of 1, batch norm", ("loader.batch_size=1", "epochs=1"), ("small-batch-norm",), ("lab_norm",)),
    of_data("off_by_one", "empty-class"),
    of_model("detached", "no-gradient"),
    Fault("sum for mean", ("loss=lab_sum",), (REFUSED,)),
    Fault("metric by batch", ("metrics=[accuracy,lab_mean]",), (REFUSED,)),
    of_model("reshape", "rows-mixed"),
    of_model("dropout", "dropout"),
    of_model("dropout_layer", "dropout"),
    of_model("blind", "constant-output"),
    of_model("unsaved", REFUSED, "unsaved-state"),
    of_data("drift", "split-drift"),
)


@dataclass(frozen=True)
class Row:
    """A fault's trainings, in how many it was named, and what was found first in the others."""

    fault: str
    rules: Sequence[str]
    named: int
    trainings: int
    instead: dict[str, int]


def found(overrides: Sequence[str], folder: Path) -> list[str]:
    """Train, and return the names of the findings, of a run that failed too; of one that is refused, that it is."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            experiments.run([*overrides, *QUIET, f"hydra.run.dir={folder}", f"output_root={folder.parent}"])
    except UserError:
        if not (folder / "journal.jsonl").exists():
            return [REFUSED]
    return list(dict.fromkeys(finding.rule for finding in examine(folder)))


def planted(seeds: int, work: Path, only: str) -> Iterator[Row]:
    """Yield a row for each fault."""
    for fault in FAULTS:
        if only not in fault.name:
            continue
        named, instead = 0, Counter[str]()
        for model in fault.models:
            for seed in range(seeds):
                place = work / re.sub(r"\W+", "_", f"{fault.name} {model} {seed}")
                names = found([*USUAL, f"model={model}", f"seed={seed}", *fault.overrides], place)
                right = any(rule in names[:2] for rule in fault.rules)
                named += right
                instead[f"{model}: {', '.join(names[:3]) or 'nothing'}"] += not right
        yield Row(fault.name, fault.rules, named, seeds * len(fault.models), dict(+instead))


def healthy(seeds: int, stage_seeds: int, option_seeds: int, work: Path, only: str) -> Iterator[Row]:
    """Yield a row for each healthy configuration; `named` is how many were silent."""
    for name, overrides, count in trainings(seeds, stage_seeds, option_seeds):
        if only not in name:
            continue
        alarms = Counter[str]()
        for seed in range(count):
            alarms[", ".join(found([*overrides, f"seed={seed}"], work / re.sub(r"\W+", "_", f"{name} {seed}")))] += 1
        silent = alarms.pop("", 0)
        yield Row(name, (), silent, count, dict(alarms))


def main() -> None:
    """Print a line for each fault, then for each healthy configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="of each fault and model")
    parser.add_argument("--stage-seeds", type=int, default=10, help="of each of the tutorial's stages")
    parser.add_argument("--option-seeds", type=int, default=2, help="of each option of each group, and of the examples")
    parser.add_argument("--only", default="", help="faults and healthy trainings whose name has this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows = []
        for row in planted(options.seeds, Path(work), options.only):
            rows.append(row)
            print(
                f"{row.fault:24} {row.named:3} of {row.trainings:3}  {', '.join(row.rules)}  {row.instead or ''}",
                flush=True,
            )
        quiet = []
        for row in healthy(options.seeds, options.stage_seeds, options.option_seeds, Path(work), options.only):
            quiet.append(row)
            print(f"{row.fault:24} {row.named:3} of {row.trainings:3} silent  {row.instead or ''}", flush=True)
    named, total = sum(row.named for row in rows), sum(row.trainings for row in rows)
    print(f"named among the first two: {named} of {total}, {named / max(1, total):.1%}")
    alarms = sum(row.trainings - row.named for row in quiet)
    print(f"false alarms: {alarms} of {sum(row.trainings for row in quiet)}")
    if options.json:
        told = {"faults": [asdict(row) for row in rows], "healthy": [asdict(row) for row in quiet]}
        options.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
