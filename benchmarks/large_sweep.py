"""Measure a sweep of 1,000 tiny jobs: the cost of its preview and of its memory, against Hydra's for an empty task.

preview: `sweep.preview=true` of all jobs, from start to exit, against an empty Hydra task over the same configuration
with the same jobs, Hydra's sweeper and no code of ours. Both compose every job; ours also checks it, the other creates
its folder.

memory: the highest resident set of the sweep's process with all jobs, minus that with ten of them, so only the growth
counts. Ours, tracked in MLflow, is compared with the empty task's. At the end every job must be in the sweep's summary,
FINISHED.

    python benchmarks/large_sweep.py
    python benchmarks/large_sweep.py --jobs 50      # to try it
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tests.support import raw_journal

if TYPE_CHECKING:
    from benchmarks import memory, pairs
    from benchmarks.startup import EMPTY
    from benchmarks.sweep_overhead import ALONE, TINY
else:
    import memory
    import pairs
    from startup import EMPTY
    from sweep_overhead import ALONE, TINY

FEW = 10


def main() -> None:
    """Measure, print, keep."""
    parser = pairs.parser(__doc__, pairs=1, what="sweeps of each kind")
    parser.add_argument("--jobs", type=int, default=1000, help="of a sweep (default 1000)")
    options = parser.parse_args()
    content: dict[str, Any] = {"jobs": options.jobs, "sweeps": []}
    for _ in range(options.pairs):
        with tempfile.TemporaryDirectory(prefix="large-sweep-") as name:
            content["sweeps"].append(compared(Path(name), options.jobs))
    pairs.keep(options.json, content)


def compared(folder: Path, jobs: int) -> dict[str, float]:
    """Return and print the seconds of the preview and of Hydra, and the MB by which each grew."""
    empty = folder / "empty.py"
    empty.write_text(EMPTY, encoding="utf-8")
    hydra = [str(empty), "-m", *ALONE, *TINY, "epochs=1"]
    ours = ["-m", "experiments", "-m", *TINY, "epochs=1", "figures=false"]
    preview, _ = measured([*ours, "sweep.preview=true"], folder, jobs)
    composed, hydra_peak = measured(hydra, folder, jobs)
    hydra_growth = hydra_peak - measured(hydra, folder, FEW)[1]
    few_peak = measured(ours, folder, FEW)[1]
    seconds, peak = measured([*ours, "hydra.sweep.dir=sweep"], folder, jobs)
    right = require_right(folder / "sweep", jobs)
    found = {"preview_s": preview, "hydra_s": composed, "run_s": seconds}
    found |= {"growth_mb": peak - few_peak, "hydra_growth_mb": hydra_growth}
    print(f"preview {preview:.1f} s, Hydra's empty task {composed:.1f} s: ratio {preview / composed:.3f}")
    print(f"memory from {FEW} to {jobs} jobs: ours {peak - few_peak:+.1f} MB, Hydra's {hydra_growth:+.1f} MB")
    print(f"the sweep itself {seconds:.1f} s; {right} of {jobs} jobs are FINISHED in its summary", flush=True)
    return found


def measured(arguments: list[str], folder: Path, jobs: int) -> tuple[float, float]:
    """Return the seconds from start to exit, and the highest resident set in MB."""
    pairs.settle(folder)
    began = perf_counter()
    peak, _ = memory.peaks([*arguments, f"seed=range({jobs})"], folder)
    seconds = perf_counter() - began  # includes the wait for the uploader's plots, which `figures=false` leaves out
    return seconds, peak / memory.MB


def require_right(sweep: Path, jobs: int) -> int:
    """Return how many rows of the summary agree with the jobs' journals; all must."""
    lines = (sweep / "summary.md").read_text(encoding="utf-8").splitlines()
    rows = {cells[0]: cells for line in lines if (cells := [cell.strip() for cell in line.strip("| ").split("|")])}
    right = 0
    for number in range(jobs):
        figures = raw_journal.summary(sweep / str(number))["figures"]
        row = rows.get(str(number), [])
        right += bool(row) and row[-1] == "FINISHED" and f"{figures['best/valid_loss']:.4f}" in row
    if right != jobs:
        raise SystemExit(f"only {right} of {jobs} jobs are correct in {sweep / 'summary.md'}")
    return right


if __name__ == "__main__":
    main()
