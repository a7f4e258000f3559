"""Shared code of the benchmarks: commands that take turns, waiting for uploaders, printing and keeping ratios."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

SOURCE = Path("data/mnist/mnist.pkl.gz")
# Nothing of the user's environment: no store, components or Hydra settings.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "EXPERIMENTS_", "HYDRA_"))
}
POLL_SECONDS = 0.02
DELIVERY_SECONDS = 900.0

Pairs = list[tuple[float, float]]


def parser(words: str | None, *, pairs: int, what: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark; `words` is its docstring, `what` is counted by --pairs."""
    made = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--pairs", type=int, default=pairs, help=f"{what}, beside the warm-up (default {pairs})")
    made.add_argument("--source", type=Path, default=SOURCE, help=f"the packed MNIST (default {SOURCE})")
    made.add_argument("--json", type=Path, help="keep the results here")
    return made


def source(options: argparse.Namespace) -> Path:
    """Return the packed MNIST, which must exist."""
    path: Path = options.source.resolve()
    if not path.is_file():
        raise SystemExit(f"{options.source} not found; --source names a local mnist.pkl.gz")
    return path


def python(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python process in a separate folder; it must succeed."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)[:200]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


def seconds(arguments: Sequence[str], folder: Path) -> float:
    """Return the seconds of a whole Python process, from its start to its exit."""
    began = time.perf_counter()
    python(arguments, folder)
    return time.perf_counter() - began


def settle(folder: Path) -> float:
    """Wait until all runs below a folder are in MLflow with their plots; return how long that took.

    A run's command ends when its metrics have arrived. Its uploader then draws, which would slow the next measurement.
    """
    began = time.perf_counter()
    while any((folder / "outputs" / "undelivered").glob("*.run")):
        if time.perf_counter() - began > DELIVERY_SECONDS:
            raise SystemExit(f"runs have not arrived in MLflow after {DELIVERY_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    waited = time.perf_counter() - began
    time.sleep(0.2)  # the uploader's exit
    return waited


def in_turn(ours: Callable[[], float], plain: Callable[[], float], pairs: int) -> Pairs:
    """Measure this many pairs, each kind first in every other one, after one pair to warm up."""
    found: Pairs = []
    for number in range(pairs + 1):
        if number % 2:
            second, first = plain(), ours()
        else:
            first, second = ours(), plain()
        found.append((first, second))
        kind = f"pair {number} of {pairs}" if number else "warm-up"
        print(f"{kind}: {first:.3f}, {second:.3f}", file=sys.stderr, flush=True)
    return found[1:]


def told(label: str, pairs: Pairs, unit: str, *, names: tuple[str, str] = ("ours", "plain")) -> str:
    """Return a line: both medians, and the ratio with its spread."""
    ratios = [a / b for a, b in pairs]
    return (
        f"{label:22} {names[0]} {median(a for a, _ in pairs):.3f} {unit}  "
        f"{names[1]} {median(b for _, b in pairs):.3f} {unit}  ratio {spread(ratios)}"
    )


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return median, minimum, maximum and count, in words."""
    low, high = min(values), max(values)
    return f"{median(values):.{digits}f} (min {low:.{digits}f}, max {high:.{digits}f}; {len(values)} pairs)"


def kept(pairs: Pairs, *, names: tuple[str, str] = ("ours", "plain")) -> dict[str, Any]:
    """Return the same for a file."""
    ratios = [a / b for a, b in pairs]
    figures = {"median": median(ratios), "min": min(ratios), "max": max(ratios)}
    return {"ratio": figures, "pairs": [dict(zip(names, pair, strict=True)) for pair in pairs]}


def keep(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write the results with the machine that they hold for; write nothing if no file is given."""
    if path is None:
        return
    machine = {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "mlflow", "hydra-core")},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, **content}, indent=1) + "\n", encoding="utf-8")
