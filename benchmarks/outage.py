"""Measure step times of a training whose tracking server is killed in epoch 2 of 6, against a live server.

Each run is stage 12 on synthetic digits, with one thread, in a separate process and folder, tracked by a real
`mlflow server` on 127.0.0.1 with SQLite. The two kinds take turns in going first. A step lasts from the end of the step
before to its end, so it includes all waiting in between. The first step of each epoch follows a validation and is left
out. Recording is what the training does at an epoch's end to report its metrics: journal, terminal, a check of the
uploader's state. A ratio is killed / alive of a pair.

    python benchmarks/outage.py
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import requests

OVERRIDES = ["stage=12_wrapped_dataloader", "dataset=synthetic", "figures=false", "epochs=6", "device.threads=1"]
FIGURES = {
    "longest step": ("steps", 100, "ms"),
    "99th percentile of steps": ("steps", 99, "ms"),
    "median step": ("steps", 50, "ms"),
    "longest recording": ("records", 100, "ms"),
}


def main() -> None:
    """Print a line for each result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="runs of each kind (default 3)")
    parser.add_argument("--rows", type=int, default=20_000, help="training rows of an epoch (default 20000)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        _train(options.overrides)
        return
    pairs = []
    for number in range(options.pairs):
        order = (True, False) if number % 2 else (False, True)
        runs = {kill: _clocked(options.rows, kill=kill) for kill in order}
        pairs.append((runs[True], runs[False]))
    print(f"{len(pairs)} pairs, {len(pairs[0][0]['steps'])} steps a run, server killed in epoch 2 of 6")
    for name, (kind, percent, unit) in FIGURES.items():
        values = [[1000 * float(np.percentile(run[kind], percent)) for run in pair] for pair in pairs]
        ratios = [killed / alive for killed, alive in values]
        print(
            f"{name:25} killed {median(a for a, _ in values):7.2f} {unit}  alive {median(b for _, b in values):7.2f} "
            f"{unit}  difference {median(a - b for a, b in values):+7.2f} {unit}  ratio {median(ratios):.3f} "
            f"(min {min(ratios):.3f}, max {max(ratios):.3f})",
            flush=True,
        )
    arrived = [[run["arrived"] for run in pair] for pair in pairs]
    print(f"in MLflow at the end: killed {sum(a for a, _ in arrived)}, alive {sum(b for _, b in arrived)}")


def _clocked(rows: int, *, kill: bool) -> dict[str, Any]:
    """Return the times of one run with a separate server, which is killed in epoch 2 if requested."""
    with tempfile.TemporaryDirectory(prefix="outage-") as folder, _server(Path(folder)) as (server, address):
        command = [sys.executable, str(Path(__file__).resolve()), "--inside", *OVERRIDES, f"dataset.train={rows}"]
        command += [f"tracking.uri={address}", "tracking.wait_seconds=5"]
        training = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert training.stdout is not None
        for line in training.stdout:
            if line == "epoch 1\n" and kill:
                os.killpg(server.pid, signal.SIGKILL)
            elif line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
        if training.wait() != 0:
            raise SystemExit("the training failed")
        return found


def _train(overrides: list[str]) -> None:
    """Run one training with its steps timed, in this process; print its times as the last line."""
    import experiments
    from experiments.tracking import client, delivered
    from experiments.training.runner import Runner
    from experiments.training.step import EagerStep

    ends: list[list[float]] = [[]]
    records: list[float] = []
    step, fit = EagerStep.__call__, Runner.fit

    def timed_step(self: EagerStep, *arguments: Any) -> Any:
        result = step(self, *arguments)
        ends[-1].append(time.perf_counter())
        return result

    def timed_fit(self: Runner, epochs: int, *, record: Any, **options: Any) -> Any:
        def timed_record(values: dict[str, float], number: int) -> None:
            begun = time.perf_counter()
            record(values, number)
            records.append(time.perf_counter() - begun)
            ends.append([])
            if "train/loss" in values:
                print(f"epoch {number}", flush=True)

        return fit(self, epochs, record=timed_record, **options)

    EagerStep.__call__, Runner.fit = timed_step, timed_fit  # type: ignore[assignment, method-assign]  # there is no hook
    result = experiments.run(overrides)
    assert result.folder is not None
    steps = [float(seconds) for epoch in ends for seconds in np.diff(epoch)]
    arrived = bool(delivered.state(result.folder).ended)
    print(json.dumps({"steps": steps, "records": records, "arrived": arrived}), flush=True)
    for uploader in client._uploaders.values():
        uploader._process.kill()  # it would continue for a while, beside the next run


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start an MLflow server in a separate session, because its workers outlive it otherwise."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *words],
        cwd=folder,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{address}/health", timeout=5).ok:
                    break
            if time.monotonic() > deadline:
                raise SystemExit("the server does not answer")
            time.sleep(0.2)
        yield server, address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


if __name__ == "__main__":
    main()
