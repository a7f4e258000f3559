"""Measure how long the command line takes to start, against an empty Hydra task with the same configuration.

Whole processes are timed from start to exit, in turn, so that both have the same load; the first pair warms up and is
not counted. The commands are `--help`, `--cfg job`, and the query of the shell when Tab is pressed. A ratio is ours /
empty of a pair. At the end, the script reports whether any of them imported torch or MLflow.

    python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

# As empty as a task over this configuration can be.
EMPTY = """
import hydra


@hydra.main(config_path="pkg://experiments.conf", config_name="config", version_base="1.3")
def task(cfg):
    pass


task()
"""
OURS = ["-m", "experiments"]
COMMANDS = [["--help"], ["--cfg", "job"], ["-sc", "query=bash"]]
# The command line when Tab is pressed, as bash passes it.
ENVIRONMENT = os.environ | {"COMP_LINE": "experiments model="}
HEAVY = ("torch", "mlflow")


def main() -> None:
    """Time the commands and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=11, help="starts of each, beside the warm-up (default 11)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        empty = Path(folder, "empty.py")
        empty.write_text(EMPTY, encoding="utf-8")
        for command in COMMANDS:
            ours, plain = [*OURS, *command], [str(empty), *command]
            pairs = [(seconds(ours, folder), seconds(plain, folder)) for _ in range(options.pairs + 1)][1:]
            ratios = [a / b for a, b in pairs]
            print(
                f"{' '.join(command):15} ours {median(a for a, _ in pairs):.3f} s  "
                f"empty {median(b for _, b in pairs):.3f} s  ratio {median(ratios):.3f} "
                f"(min {min(ratios):.3f}, max {max(ratios):.3f}; {len(ratios)} pairs)",
                flush=True,
            )
        for command in COMMANDS:
            modules = imported([*OURS, *command], folder)
            heavy = ", ".join(name for name in HEAVY if name in modules) or f"neither {' nor '.join(HEAVY)}"
            print(f"{' '.join(command):15} imports {len(modules)} modules, of the heavy ones: {heavy}")


def seconds(arguments: list[str], folder: str) -> float:
    """Return the seconds of a whole Python process, in a separate folder."""
    start = time.perf_counter()
    run(arguments, folder)
    return time.perf_counter() - start


def imported(arguments: list[str], folder: str) -> set[str]:
    """Return the modules that a process imports, as Python reports them."""
    report = run(["-X", "importtime", *arguments], folder).stderr
    return set(re.findall(r"^import time:.*\|\s+([\w.]+)$", report, flags=re.MULTILINE))


def run(arguments: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    """Run a Python process with these arguments; it must succeed."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True)


if __name__ == "__main__":
    main()
