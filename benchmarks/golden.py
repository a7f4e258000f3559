"""Freeze the results of trainings, verdicts and exported scripts, and compare them later to the last bit.

Use it for a change that should move code but no number: write before, check after, on the same machine with the same
libraries. The commands of the installed package make all results, which are read from the runs' journals, so this file
can stay the same when the code changes. Seconds and rows per second are left out. A script that differs only in
comments and docstrings is reported as "words only" and counts as the same.

    python benchmarks/golden.py write FOLDER
    python benchmarks/golden.py check FOLDER     # list what differs; exit code 1 if anything does
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MNIST = ROOT.parent / "shared" / "data" / "mnist.pkl.gz"
STAGES = sorted(path.stem for path in (ROOT / "conf" / "stage").glob("*.yaml"))
# Nothing of the user's environment: no store, components or Hydra settings.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "EXPERIMENTS_", "HYDRA_"))
}
COMPONENTS = "EXPERIMENTS_COMPONENTS"
ONE_THREAD = "device.threads=1"  # the division of sums among threads decides their last bits
QUIET = ("tracking=none", "figures=false", ONE_THREAD, "device=cpu")
TIMES = ("time/", "throughput/")

# Each setting uses another path through the loop. The first one stops early and restores its best weights.
SETTINGS = {
    "noise": "dataset=mnist_5k model=mlp model.depth=2 model.dropout=0.3 transforms=random_shift optim=sgd_momentum "
    "scheduler=one_cycle epochs=12 callbacks=early_stopping callbacks.early_stopping.patience=1 "
    "callbacks.early_stopping.min_delta=0.1",
    "adam": "dataset=mnist_5k model=cnn_adaptive optim=adam",
    "adamw": "dataset=mnist_5k model=cnn_sequential optim=adamw seed=3",
    "cosine": "dataset=digits model=mlp optim=sgd_momentum scheduler=cosine epochs=3 transforms=normalize",
    "step": "dataset=digits model=mlp optim=adam scheduler=step scheduler.factor=0.5 epochs=3 seeds.data_order=7",
    "bf16": "dataset=mnist_5k model=mlp optim=adam device.precision=bf16",
    "max_grad_norm": "dataset=mnist_5k model=cnn optim=sgd_momentum max_grad_norm=0.5",
    "limit_batches": "dataset=mnist_5k model=logistic limit_batches=7 epochs=3",
    "dataloader": "dataset=digits model=mlp optim=sgd loader=dataloader loader.num_workers=0 loader.shuffle=true",
    "batches": "dataset=digits model=mlp evaluation.mean=batches loader.batch_size=50 loader.valid_batch_size=99",
    "synthetic": "dataset=synthetic dataset.shape=[3,12,10] model=cnn_adaptive optim=sgd_momentum",
}
# The run that trains for one epoch, then for another by experiments.resume.
RESUMED = "dataset=mnist_5k model=mlp model.dropout=0.2 transforms=random_shift optim=adam"
OWN = {
    "my_net": "dataset=digits model=my_net model.width=64",
    "my_metric": "dataset=digits model=mlp metrics=[accuracy,top_k] metrics.top_k.k=2",
    "my_dataset": "dataset=stripes dataset.size=300 model=cnn_adaptive optim=sgd_momentum",
}

Figures = dict[str, str]
Part = Callable[[], Mapping[str, str]]  # makes the texts by file name


class Golden:
    """Makes the frozen texts, in a separate folder.

    Args:
        place: an empty folder.
        mnist: the tutorial's file; None if it is missing.
    """

    def __init__(self, place: Path, mnist: Path | None) -> None:
        self.place = place
        self.mnist = mnist
        self.failed: list[str] = []

    def parts(self) -> dict[str, Part]:
        """Return the function that makes each part, by the part's name.

        A stage is exported on each data set: on MNIST its script reads the tutorial's file, otherwise rows from a file.
        """
        data = {"mnist_5k": "dataset=mnist_5k"} | ({"mnist": f"dataset.source={self.mnist.name}"} if self.mnist else {})
        exported = {name: {stage: f"stage={stage} {override}" for stage in STAGES} for name, override in data.items()}
        exported |= {"settings": SETTINGS, "own": OWN}
        return {
            **{f"stages-{name}": partial(self.stages, name, override) for name, override in data.items()},
            "settings": self.settings,
            "own": self.own,
            "parity": self.parity,
            **{f"scripts-{name}": partial(self.scripts, name, settings) for name, settings in exported.items()},
        }

    def stages(self, name: str, override: str) -> Mapping[str, str]:
        """Train the fourteen stages as one sweep. Stage 13 finds stage 12 there, so no other sweep may be beside it."""
        folder = self.folder(f"stages-{name}")
        words = ["experiment=tutorial", "sweep.parity=null", override, *QUIET]
        self.call(folder, "experiments", words)
        found = [_figures(path) for path in folder.glob("outputs/sweeps/*/*/*/journal.jsonl")]
        if len(found) != len(STAGES):
            self.failed.append(f"stages-{name}: {len(found)} journals of {len(STAGES)} stages")
        return {f"stages-{name}.json": _text({key: value for run in found for key, value in run.items()})}

    def settings(self) -> Mapping[str, str]:
        """Train each setting, and one run in two commands. Keep the script of that run as exported from its folder."""
        folder = self.folder("settings")
        found = self.trained(folder, SETTINGS)
        self.trained(folder, {"resumed": f"{RESUMED} epochs=1"})
        self.call(folder, "experiments.resume", ["resumed", "epochs=2"])
        found |= _figures(folder / "resumed" / "journal.jsonl")
        script = self.call(folder, "experiments.export_script", ["resumed"])
        return {"settings.json": _text(found), "scripts/runs/resumed.py": script}

    def own(self) -> Mapping[str, str]:
        """Train with each component of the examples."""
        return {"own.json": _text(self.trained(self.folder("own"), OWN))}

    def parity(self) -> Mapping[str, str]:
        """Compare each stage with the one before. Its exit code is 1 if a verdict is not the expected one."""
        words = ["--stages", "dataset=mnist_5k", ONE_THREAD]
        lines = self.call(self.folder("parity"), "experiments.parity", words, allowed=(0, 1)).splitlines()
        rule = next((line for line in lines if line.startswith("---")), "")
        seconds = rule.rfind(" ") + 1  # the last column's start, up to the table's end
        end = lines.index("") if "" in lines else len(lines)
        return {"parity.json": _text([line[:seconds].rstrip() for line in lines[:end]] + lines[end:])}

    def scripts(self, part: str, settings: Mapping[str, str]) -> Mapping[str, str]:
        """Export each of these settings. One that no script can express is refused with exit code 2 and has no file."""
        folder = self.folder(f"scripts-{part}")
        texts = {
            f"scripts/{part}/{name}.py": self.call(
                folder, "experiments.export_script", [*words.split(), ONE_THREAD], own=name, allowed=(0, 2)
            )
            for name, words in settings.items()
        }
        return {name: text for name, text in texts.items() if text}

    def trained(self, folder: Path, settings: Mapping[str, str]) -> Figures:
        """Train with each of these settings, each in the folder of its name, and read the metrics."""
        found: Figures = {}
        for name, words in settings.items():
            self.call(folder, "experiments", [*words.split(), *QUIET, f"hydra.run.dir={name}"], own=name)
            found |= _figures(folder / name / "journal.jsonl")
        return found

    def folder(self, name: str) -> Path:
        """Create a working folder with data and components beside it, so that texts contain no path of this machine."""
        folder = self.place / name
        folder.mkdir()
        for path in [*(ROOT / "examples").glob("my_*.py"), *([self.mnist] if self.mnist else [])]:
            shutil.copyfile(path, folder / path.name)
        return folder

    def call(
        self, folder: Path, module: str, words: Sequence[str], *, own: str = "", allowed: Sequence[int] = (0,)
    ) -> str:
        """Run a command, with the example's components if the name is an example's, and return its output.

        An exit code that is not allowed is noted as a failure; the following parts still run.
        """
        environment = ENVIRONMENT | ({COMPONENTS: f"{own}.py"} if own in OWN else {})
        command = [sys.executable, "-m", module, *words]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        told = f"{folder.name}: {module} {' '.join(words)}"
        code = f"  exit code {done.returncode}" if done.returncode else ""
        print(f"{told}  {time.perf_counter() - began:.1f} s{code}", flush=True)
        if done.returncode not in allowed:
            self.failed.append(f"{told}: exit code {done.returncode}\n{done.stderr[-2000:]}")
        return done.stdout


def _figures(journal: Path) -> Figures:
    """Read a run's metrics, each as its shortest exact text, its status, and the weights it left."""
    name, found = journal.parent.name, Figures()
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else ():
        event = json.loads(line)
        if event["event"] == "start":
            name = event["tags"].get("stage", name)
        elif event["event"] == "metrics":
            values = {key: value for key, value in event["values"].items() if not key.startswith(TIMES)}
            found |= {f"{name}  epoch {event['step']:02}  {key}": repr(value) for key, value in values.items()}
        elif event["event"] == "end":
            found[f"{name}  status"] = event["status"]
    if (weights := journal.with_name("weights.pt")).is_file():
        found[f"{name}  weights"] = _digest(weights)
    return found


def _digest(weights: Path) -> str:
    """Identify the bytes of all tensors. Early stopping restores them, and no metric of an epoch shows them.

    torch keeps each in a file `NAME/data/NUMBER` of a zip archive; the archive's other bytes may change with torch.
    """
    with zipfile.ZipFile(weights) as archive:
        tensors = sorted(name for name in archive.namelist() if name.split("/")[-2] == "data")
        return hashlib.sha256(b"".join(archive.read(name) for name in tensors)).hexdigest()


def _text(content: Figures | list[str]) -> str:
    """Write one value per line with its name, so that a diff is short."""
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def code(text: str) -> str:
    """Reduce a script to its code: no comments, no docstrings. Text that is not Python stays as it is."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            del node.body[: ast.get_docstring(node, clean=False) is not None]
    return ast.dump(tree)


def compare(folder: Path, part: str, made: Mapping[str, str]) -> Iterator[str]:
    """Report each difference of a part from its frozen files, including files that are no longer made."""
    frozen = [path.relative_to(folder).as_posix() for path in folder.glob(f"{part.replace('-', '/', 1)}/*.py")]
    for name in sorted({*made, *frozen}):
        path = folder / name
        if name not in made or not path.is_file():
            yield f"{name}: {'new' if name in made else 'gone'}"
            continue
        before, now = path.read_text(encoding="utf-8"), made[name]
        if before != now and name.endswith(".py") and code(before) == code(now):
            print(f"{name}: words only", flush=True)
        elif before != now:
            lines = difflib.unified_diff(before.splitlines(), now.splitlines(), "before", "now", lineterm="", n=0)
            yield "\n    ".join([name, *lines])


def main() -> None:
    """Write or check; exit code 1 if something differs or a command fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("write", "check"))
    parser.add_argument("folder", type=Path, help="of the golden files; for write, empty or new")
    parser.add_argument("--mnist", type=Path, default=MNIST, help="the tutorial's mnist.pkl.gz (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="PART", help="only these parts: settings, scripts-own, ...")
    given = parser.parse_args()
    folder: Path = given.folder
    if given.action == "write" and folder.is_dir() and any(folder.iterdir()):
        parser.error(f"{folder} already contains files, which are not overwritten; name a new folder")
    mnist = given.mnist.resolve() if given.mnist.is_file() else None
    if mnist is None:
        print(f"skipped: the stages on the whole of MNIST, because {given.mnist} was not found", flush=True)
    began, differing = time.perf_counter(), list[str]()
    with tempfile.TemporaryDirectory(prefix="golden-") as place:
        golden = Golden(Path(place), mnist)
        parts = golden.parts()
        if unknown := {*(given.only or ())} - {*parts}:
            parser.error(f"unknown part: {', '.join(sorted(unknown))}; available: {', '.join(parts)}")
        for part in given.only or parts:
            made = parts[part]()
            if given.action == "check":
                differing += compare(folder, part, made)
                continue
            for name, text in made.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text, encoding="utf-8")
    print(*differing, *golden.failed, sep="\n")
    counted = f"{len(differing)} files differ, " if given.action == "check" else ""
    print(f"{counted}{len(golden.failed)} failures, {time.perf_counter() - began:.0f} s")
    sys.exit(int(bool(differing or golden.failed)))


if __name__ == "__main__":
    main()
