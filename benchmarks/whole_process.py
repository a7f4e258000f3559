"""Measure whole processes, from start to exit: tracked in MLflow, against plain untracked scripts.

run: two epochs of the adaptive network with momentum on the whole MNIST, from the command line, against `plain.py`, the
same training as the tutorial would write it: a pickle, a DataLoader over a TensorDataset of float32, the default SGD, a
validation and a print each epoch.

stages: `experiment=tutorial`, all fourteen in one multirun, against all fourteen in one plain script. That script is
what `experiments.export_script` writes for each stage, one after the other in one file, so both do the same work and
print the same losses, which is checked to the last bit. It is made as fast as possible: the data is read once and
requests is not imported; stage 12 is trained once, by the run from which stage 13 starts; an order of rows is passed to
a DataLoader as a list (a tensor is slower, the tutorial's `shuffle=True` is not faster than a list); the fused SGD
stays, which the tutorial does not have. The parity check at the end of such a sweep (`sweep.parity`) has no equivalent
in a plain script and is switched off; --parity switches it on in ours.

The two take turns, in a folder whose MNIST cache and SQLite store already exist. A command ends when its metrics are in
MLflow; the plots follow, and each measurement starts when they are finished: `drawn` reports how much later that was. A
ratio is ours / plain of a pair.

    python benchmarks/whole_process.py --source data/mnist/mnist.pkl.gz
"""

from __future__ import annotations

import json
import re
import tempfile
from importlib import resources
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.support import raw_journal

from experiments.components.datasets.mnist import PLAIN
from experiments.tracking import journal

if TYPE_CHECKING:
    from benchmarks import pairs
else:
    import pairs

RUN = ["model=cnn_adaptive", "optim=sgd_momentum"]
STAGES = sorted(Path(file.name).stem for file in resources.files("experiments.conf").joinpath("stage").iterdir())
EXPORT = """
import json, sys
from experiments.export_script.exporting import export
print(json.dumps([export([f"stage={name}", sys.argv[1]]).text for name in sys.argv[2:]]))
"""
LOADS_ONCE = """\
import gzip
import pickle
import sys

import torch

with gzip.open(sys.argv[1]) as file:
    (x_train, y_train), (x_valid, y_valid), _ = pickle.load(file, encoding="latin-1")
x_train, y_train, x_valid, y_valid = map(torch.as_tensor, (x_train, y_train, x_valid, y_valid))
"""
SAMPLER = re.compile(r"\bsampler=order\b(?!\.tolist)")
PRINTED = re.compile(r"^epoch \d+  train/loss (\S+)  valid/loss (\S+)$", flags=re.MULTILINE)


def main() -> None:
    """Time both and print a line for each."""
    parser = pairs.parser(__doc__, pairs=7, what="whole processes of each kind")
    parser.add_argument("--only", choices=["run", "stages"], help="only this one")
    parser.add_argument("--parity", action="store_true", help="with the parity check at the end of ours")
    options = parser.parse_args()
    source = pairs.source(options)
    content: dict[str, Any] = {"parity": options.parity}
    with tempfile.TemporaryDirectory(prefix="whole-process-") as name:
        folder = Path(name)
        began = ["limit_batches=1", "epochs=1", f"dataset.source='{source}'"]
        pairs.python(["-m", "experiments", *began], folder)  # creates the cache and the store
        if options.only != "stages":
            ours = ["-m", "experiments", *RUN]
            plain = [str(Path(__file__).with_name("plain.py")), str(source)]
            content["run"] = measured("run", ours, plain, folder, options.pairs)
        if options.only != "run":
            composed = folder / "stages.py"
            composed.write_text(one_script(folder, source), encoding="utf-8")
            plain = [str(composed), str(source)]
            ours = ["-m", "experiments", "experiment=tutorial", *([] if options.parity else ["sweep.parity=null"])]
            content["stages"] = measured("stages", ours, plain, folder, options.pairs)
            equal, epochs = same_losses(folder, pairs.python(plain, folder).stdout)
            content["stages"]["equal_epochs"] = equal
            print(f"{'':22} losses equal to the last bit in {equal} of {epochs} epochs")
    pairs.keep(options.json, content)


def measured(label: str, ours: list[str], plain: list[str], folder: Path, number: int) -> dict[str, Any]:
    """Run pairs of the two commands; print them, and return them for the file."""
    drawn: list[float] = []

    def tracked() -> float:
        pairs.settle(folder)
        seconds = pairs.seconds(ours, folder)
        drawn.append(pairs.settle(folder))
        return seconds

    found = pairs.in_turn(tracked, lambda: pairs.seconds(plain, folder), number)
    later = median(drawn[1:])
    print(f"{pairs.told(label, found, 's')}; drawn {later:.1f} s later", flush=True)
    return {**pairs.kept(found), "drawn_seconds_later": later}


def one_script(folder: Path, source: Path) -> str:
    """Return all stages as one plain script, its argument the packed MNIST; stage 13's part starts with stage 12."""
    names = [name for name in STAGES if not name.startswith("12_")]
    scripts = json.loads(pairs.python(["-c", EXPORT, f"dataset.source='{source}'", *names], folder).stdout)
    parts, loads = [LOADS_ONCE], "".join(str(PLAIN(source=str(source))).partition("# The data")[1:])
    for text in scripts:
        part = text
        for old, new in ((loads, ""), ("import requests\n", ""), ("from pathlib import Path\n", "")):
            if old not in part:
                raise SystemExit(f"an exported script no longer contains:\n{old}")
            part = part.replace(old, new)
        parts.append(SAMPLER.sub("sampler=None if order is None else order.tolist()", part))
    if not any("order.tolist()" in part for part in parts):
        raise SystemExit("the exported scripts no longer pass a DataLoader its order as expected")
    return "\n\n".join(parts)


def same_losses(folder: Path, printed: str) -> tuple[int, int]:
    """Return how many epochs of the newest sweep and the plain script have the same losses, and how many there are."""
    theirs = [(float(train), float(valid)) for train, valid in PRINTED.findall(printed)]
    sweep = max(folder.glob("outputs/sweeps/*/*"))
    ours = []
    for job in sorted(sweep.glob("*/" + journal.FILE), key=lambda path: int(path.parent.name)):
        series = raw_journal.summary(job.parent)["series"]
        ours += list(zip(series["train/loss"], series["valid/loss"], strict=True))
    return sum(a == b for a, b in zip(ours, theirs, strict=True)), len(ours)


if __name__ == "__main__":
    main()
