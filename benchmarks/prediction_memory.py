"""Measure the memory of trainings with large predictions against plain scripts: a language model, a segmentation.

The peak is the highest resident set of the training process alone, one epoch on synthetic rows, with device.threads=1.
glibc returns blocks of 1 MB and more at once (MALLOC_MMAP_THRESHOLD_), so that the peak is what is in use, and not the
holes between: with its own settings both sides take 1.5 to 2.5 times as much, differently in each run.
`none` is without metrics, `accuracy` and `f1` with them; a ratio is ours / plain.

    python benchmarks/prediction_memory.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

MB = 1 << 20
TASKS = ("language model", "segmentation")
OWN = """
import torch
from torch import nn
import experiments

def rows(task):
    noise = torch.Generator().manual_seed(0)
    if task == "language model":
        x = torch.randint(5000, (512, 64), generator=noise)
        return x, x.roll(-1, 1)
    x = torch.rand(256, 1, 96, 96, generator=noise)
    return x, (x[:, 0] * 16).long()

def network(task):
    if task == "language model":
        class Words(nn.Module):
            def __init__(self):
                super().__init__()
                self.table, self.out = nn.Embedding(5000, 32), nn.Linear(32, 5000)
            def forward(self, x):
                return self.out(self.table(x)).movedim(-1, 1)
        return Words()
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))

@experiments.register.dataset("large")
def large(*, task: str = "segmentation"):
    x, y = rows(task)
    return experiments.Splits.of(train=(x, y), valid=(x[:64], y[:64]), classes=5000 if x.ndim == 2 else 16)

@experiments.register.model("large_net", input="any")
def large_net(data, *, task: str = "segmentation"):
    return network(task)
"""
PLAIN = """
import sys
import torch
from own import network, rows
torch.set_num_threads(1)
task = sys.argv[1]
x, y = rows(task)
model, loss = network(task), torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def epoch(x, y, train):
    for xb, yb in zip(x.split(16), y.split(16)):
        with torch.set_grad_enabled(train):
            value = loss(model(xb), yb)
        if train:
            value.backward(); optimizer.step(); optimizer.zero_grad()
epoch(x[:64], y[:64], False); epoch(x, y, True); epoch(x[:64], y[:64], False)
"""


def peak(folder: Path, command: list[str]) -> float:
    """Return the highest resident set of a command, in MB."""
    environment = {**os.environ, "EXPERIMENTS_COMPONENTS": "own.py", "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    environment["MALLOC_MMAP_THRESHOLD_"] = str(MB)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit((folder / "log").read_text()[-2000:])
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MB


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "own.py").write_text(OWN)
        (folder / "plain.py").write_text(PLAIN)
        for task in TASKS:
            plain = peak(folder, ["plain.py", task])
            print(f"{task:15} plain {plain:6.0f} MB", end="", flush=True)
            settings = ["dataset=large", "model=large_net", f"dataset.task={task}", f"model.task={task}"]
            settings += ["optim=sgd", "loss=cross_entropy", "epochs=1", "loader.batch_size=16"]
            settings += ["loader.valid_batch_size=16", "tracking=none", "figures=false", "device.threads=1"]
            for metrics in ("none", "accuracy", "f1"):
                ours = peak(folder, ["-m", "experiments", *settings, f"metrics={metrics}"])
                print(f"  {metrics} {ours:6.0f} MB ({ours / plain:.2f})", end="", flush=True)
            print()


if __name__ == "__main__":
    main()
