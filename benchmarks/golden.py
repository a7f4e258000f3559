"""Freeze what trainings, verdicts and exported scripts are to the last bit, and compare after a change of the code.

    python benchmarks/golden.py write FOLDER     # before the change
    python benchmarks/golden.py check FOLDER     # after it, on the same machine: lists what differs, exit code 1 if any

Only commands are used and only journals are read, so that the same script runs before and after modules move. Times are
left out. A script that differs in comments and docstrings alone is told as such and counts as the same.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MNIST = ROOT.parent / "shared" / "data" / "mnist.pkl.gz"
STAGES = sorted(path.stem for path in (ROOT / "conf" / "stage").glob("*.yaml"))
QUIET = ("tracking=none", "figures=false", "device.threads=1", "device=cpu")
OWN = {
    "EXPERIMENTS_COMPONENTS": os.pathsep.join(str(ROOT / "examples" / f"my_{name}.py") for name in ("net", "metric"))
}
OWN_DATA = {"EXPERIMENTS_COMPONENTS": str(ROOT / "examples" / "my_dataset.py")}
NOT_FROZEN = ("time/", "throughput/")
# Each touches another part of the loop.
SETTINGS = {
    "noise": "model=mlp model.dropout=0.3 transforms=random_shift optim=adam scheduler=one_cycle epochs=3 "
    "callbacks=early_stopping loader.shuffle=true",
    "decay": "model=cnn_adaptive optim=adamw scheduler=cosine max_grad_norm=0.5 limit_batches=20",
    "steps": "model=mlp optim=sgd_momentum scheduler=step epochs=3 evaluation.mean=batches",
    "bf16": "model=mlp device.precision=bf16 limit_batches=20",
    "dataloader": "model=logistic loader=dataloader loader.shuffle=true limit_batches=30",
}
OWN_RUNS: dict[str, tuple[Mapping[str, str], str]] = {
    "my_net": (OWN, "model=my_net dataset=mnist_5k limit_batches=30"),
    "my_metric": (OWN, "model=cnn_adaptive metrics=[accuracy,top_k] dataset=mnist_5k limit_batches=30"),
    "my_dataset": (OWN_DATA, "model=mlp dataset=stripes limit_batches=30"),
}


class Golden:
    """The frozen results, made by the commands of the package that this Python has.

    Args:
        place: an empty folder to work in.
    """

    def __init__(self, place: Path) -> None:
        self.place = place

    def results(self, mnist: Path) -> Iterator[tuple[str, str]]:
        """Every frozen text by its name."""
        yield "stages-mnist_5k.json", self.sweep("stages", "dataset=mnist_5k")
        if mnist.is_file():
            yield "stages-mnist.json", self.sweep("whole", f"dataset.source={mnist}")
        else:
            print(f"left out, for there is no {mnist}: the stages on all of MNIST", flush=True)
        for name, words in SETTINGS.items():
            yield f"run-{name}.json", self.run(name, [*words.split(), "dataset=mnist_5k"])
        yield "run-resumed.json", self.resumed()
        for name, (environment, words) in OWN_RUNS.items():
            yield f"run-{name}.json", self.run(name, words.split(), environment)
        yield "parity.txt", self.parity()
        for stage in STAGES:
            yield f"{stage}.py", self.call("experiments.export_script", f"stage={stage}", "dataset=mnist_5k")
        for name, words in SETTINGS.items():
            yield f"{name}.py", self.call("experiments.export_script", *words.split(), "dataset=mnist_5k")
        for name, (environment, words) in OWN_RUNS.items():
            yield f"{name}.py", self.call("experiments.export_script", *words.split(), env=environment)

    def sweep(self, name: str, *overrides: str) -> str:
        """The figures of the fourteen stages."""
        folder = self.place / name
        words = ["experiment=tutorial", "sweep.parity=null", f"hydra.sweep.dir={folder}"]
        self.call("experiments", *words, *overrides, *QUIET)
        return _frozen({str(path.parent.name): _figures(path) for path in sorted(folder.glob("*/journal.jsonl"))})

    def run(self, name: str, overrides: list[str], environment: Mapping[str, str] | None = None) -> str:
        """The figures of one run."""
        folder = self.place / name
        self.call("experiments", *overrides, *QUIET, f"hydra.run.dir={folder}", env=environment)
        return _frozen(_figures(folder / "journal.jsonl"))

    def resumed(self) -> str:
        """The figures of a run that was ended after an epoch and resumed."""
        folder = self.place / "resumed"
        words = ["model=cnn_adaptive", "optim=adam", "dataset=mnist_5k", "loader.shuffle=true", *QUIET]
        self.call("experiments", *words, "epochs=1", f"hydra.run.dir={folder}")
        self.call("experiments.resume", str(folder), "epochs=3")
        return _frozen(_figures(folder / "journal.jsonl"))

    def parity(self) -> str:
        """The verdicts on neighbouring stages, without the seconds they took."""
        told = self.call("experiments.parity", "--stages", "--steps", "60", "dataset=mnist_5k", "device.threads=1")
        return "".join(f"{' '.join(line.split()[:-1])}\n" for line in told.splitlines() if "->" in line)

    def call(self, module: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """What a command prints; it has to succeed."""
        print(module, *arguments, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.place,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | dict(env or {}),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"exit code {done.returncode}: {done.stderr}")
        return done.stdout


def _figures(journal: Path) -> dict[str, dict[str, str]]:
    """A run's figures by name and step, each as its shortest exact text."""
    found: dict[str, dict[str, str]] = {}
    for line in journal.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "metrics":
            for name, value in event["values"].items():
                if not name.startswith(NOT_FROZEN):
                    found.setdefault(name, {})[str(event["step"])] = repr(value)
    return found


def _frozen(figures: Any) -> str:
    return json.dumps(figures, indent=1, sort_keys=True) + "\n"


def compared(name: str, before: str, now: str) -> str:
    """How a text differs from the frozen one: empty, "words only", or "differs"."""
    if before == now:
        return ""
    return "words only" if name.endswith(".py") and _code(before) == _code(now) else "differs"


def _code(text: str) -> str:
    """A script without comments and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[:1] = [ast.Pass()]
    return ast.dump(tree)


def main() -> None:
    """Write or check; exit code 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("write", "check"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mnist", type=Path, default=MNIST, help="the tutorial's file; default: %(default)s")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    differing = 0
    with tempfile.TemporaryDirectory() as place:
        for name, text in Golden(Path(place)).results(given.mnist.resolve()):
            frozen = given.folder / name
            if given.action == "write":
                frozen.write_text(text, encoding="utf-8")
                continue
            verdict = compared(name, frozen.read_text(encoding="utf-8"), text) if frozen.is_file() else "not frozen"
            differing += verdict not in ("", "words only")
            print(f"{name}: {verdict or 'the same'}", flush=True)
    sys.exit(int(differing > 0))


if __name__ == "__main__":
    main()
