"""Measure the memory of a training process: against a plain script, over many epochs, and with many samples.

peak: the highest resident set of the training process alone, as the system reports it at its end, for two epochs of the
adaptive network on the whole MNIST, trained from the command line, against `plain.py`, in turn. A ratio is ours / plain
of a pair. The peak of the uploader, including its drawing of plots, is also reported.

epochs: a run of 1,000 tiny epochs reports its resident set after every fiftieth; the result is its growth from the 50th
on.

samples: peaks of runs over 10,000, 100,000 and 1,000,000 synthetic rows of 28x28 floats. A small run cannot show the
cost of the first 10,000 rows, because the libraries and the batches in flight take more, and vary. The cost of a row is
therefore the slope between two sizes. `1M / 10k` is the cost of a million rows on the line through all three, piece by
piece, divided by the cost of 10,000: 100 if the pieces are equally steep. Rows are generated, so a row is in memory
twice at the peak; --sizes and --shape make it smaller.

    python benchmarks/memory.py --source data/mnist/mnist.pkl.gz
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks import pairs
else:
    import pairs

RUN = ["model=cnn_adaptive", "optim=sgd_momentum"]
TINY = ["dataset=synthetic", "dataset.train=64", "dataset.valid=64", "limit_batches=1", "device.threads=1"]
UPLOADER = "experiments.tracking.uploader"
MB = 1 << 20
EACH = 50  # epochs
# The command line's training, which reports its resident set as it runs; the argument after -c is a file.
WATCHED = f"""
import os, sys
from pathlib import Path
from experiments.__main__ import main
from experiments.training.runner import Runner
told, page = Path(sys.argv.pop(1)), os.sysconf("SC_PAGE_SIZE")
run_epoch = Runner.run_epoch
def watched(self, epoch):
    if epoch and epoch % {EACH} == 0:
        with told.open("a") as file:
            print(epoch, int(Path("/proc/self/statm").read_text().split()[1]) * page, file=file)
    return run_epoch(self, epoch)
Runner.run_epoch = watched
main()
"""


def main() -> None:
    """Print a line for each measurement."""
    parser = pairs.parser(__doc__, pairs=7, what="processes of each kind")
    parser.add_argument("--epochs", type=int, default=1000, help="of the long run (default 1000)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="numbers of rows")
    parser.add_argument("--shape", default="1,28,28", help="of a synthetic image (default 1,28,28)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each size (default 3)")
    parser.add_argument("--only", choices=["peak", "epochs", "samples"], help="only this one")
    options = parser.parse_args()
    if not Path("/proc/self/status").exists():
        raise SystemExit("this benchmark reads /proc, which this system does not have")
    content: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        folder = Path(name)
        for part, measure in (("peak", against_plain), ("epochs", over_epochs), ("samples", over_samples)):
            if options.only in (None, part):
                content[part] = measure(options, folder)
    pairs.keep(options.json, content)


def against_plain(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the peaks of the same training, ours and plain."""
    source = pairs.source(options)
    pairs.python(["-m", "experiments", "limit_batches=1", "epochs=1", f"dataset.source='{source}'"], folder)
    uploaders: list[float] = []

    def ours() -> float:
        pairs.settle(folder)
        training, uploader = peaks(["-m", "experiments", *RUN], folder)
        uploaders.append(uploader / MB)
        return training / MB

    def plain() -> float:
        return peaks([str(Path(__file__).with_name("plain.py")), str(source)], folder)[0] / MB

    found = pairs.in_turn(ours, plain, options.pairs)
    print(f"{pairs.told('peak', found, 'MB')}; the uploader beside it {median(uploaders[1:]):.0f} MB", flush=True)
    return {**pairs.kept(found), "uploader_mb": uploaders[1:]}


def over_epochs(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the resident set of one long run over its epochs."""
    told = folder / "resident.txt"
    command = ["-c", WATCHED, str(told), *TINY, f"epochs={options.epochs + 1}"]
    _, uploader = peaks(command, folder)
    points = [[int(word) for word in line.split()] for line in told.read_text(encoding="utf-8").splitlines()]
    (first, before), (last, after) = points[0], points[-1]
    growth = (after - before) / MB
    print(
        f"{'epochs':22} after {first} {before / MB:.1f} MB, after {last} {after / MB:.1f} MB: {growth:+.1f} MB, "
        f"{1024 * growth / max(last - first, 1):+.2f} KB an epoch; the uploader {uploader / MB:.0f} MB at most",
        flush=True,
    )
    resident = {epoch: size / MB for epoch, size in points}
    return {"resident_mb": resident, "growth_mb": growth, "uploader_mb": uploader / MB}


def over_samples(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the peaks by the number of rows, and the cost of a row between them."""
    row = 4 * math.prod(int(side) for side in options.shape.split(","))
    found: dict[int, list[float]] = {size: [] for size in sorted(options.sizes)}
    for _ in range(options.repeats):
        for size, kept in found.items():
            data = ["dataset=synthetic", f"dataset.shape=[{options.shape}]", f"dataset.train={size}", "epochs=1"]
            kept.append(peaks(["-m", "experiments", *data], folder)[0] / MB)
            pairs.settle(folder)
    at = {size: median(kept) for size, kept in found.items()}
    slopes = [(at[large] - at[small]) / (large - small) for small, large in pairwise(at)]
    for size, peak in at.items():
        print(f"{'samples':22} {size:,} rows: {peak:.0f} MB at the peak", flush=True)
    for (small, large), slope in zip(pairwise(at), slopes, strict=True):
        print(f"{'':22} {small:,} to {large:,}: {slope * MB / row:.3f} times a row's bytes each")
    sizes = list(at)
    ratio = 1 + (at[sizes[-1]] - at[sizes[0]]) / (slopes[0] * sizes[0])
    rows = sizes[-1] / sizes[0]
    print(f"{'':22} {sizes[-1]:,} rows cost {ratio:.1f} times what {sizes[0]:,} do, being {rows:g} times as many")
    return {"shape": options.shape, "row_bytes": row, "peaks_mb": found, "slopes_mb": slopes, "ratio": ratio}


def peaks(arguments: list[str], folder: Path) -> tuple[int, int]:
    """Return the highest resident set, in bytes, of a Python process and of the uploader it started (0 if none)."""
    # This process's resident set counts as the child's before its program is loaded: so torch is not imported here.
    assert "torch" not in sys.modules
    with (folder / "errors.txt").open("w+") as errors:
        command = [sys.executable, *arguments]
        started = subprocess.Popen(command, cwd=folder, env=pairs.ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=errors)
        beside, highest = None, 0
        while True:
            done, status, usage = os.wait4(started.pid, os.WNOHANG)
            beside = beside or uploader_of(started.pid)
            highest = max(highest, peak_of(beside))
            if done:
                break
            time.sleep(pairs.POLL_SECONDS)
        started.returncode = os.waitstatus_to_exitcode(status)
        if started.returncode:
            errors.seek(0)
            raise SystemExit(f"{' '.join(arguments)[:200]} failed:\n{errors.read()[-2000:]}")
    while size := peak_of(beside):  # it draws plots
        highest = max(highest, size)
        time.sleep(pairs.POLL_SECONDS)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), highest


def uploader_of(parent: int) -> int | None:
    """Return the process id of the uploader that a process started."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
        return next(
            (int(child) for child in children if UPLOADER.encode() in Path(f"/proc/{child}/cmdline").read_bytes()), None
        )
    except OSError:
        return None


def peak_of(process: int | None) -> int:
    """Return the highest resident set of a running process so far, in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()
