"""Count the epochs that a search by rungs trains, compare its winner with that of the full search; and time slots.

For each seed: 27 trials of 9 epochs of a small CNN on mnist_5k, as `full`, `halving` and `one_epoch keep=3`. All three
choose the same settings for each trial, since the sampler learns from the first rung only where there is one, so the
sampler is `random` here. A winner that is another trial than the full search's counts as within noise where the
interval of five seeds of both (95 %, paired) includes zero.

Then 16 trainings of cnn_adaptive on mnist_5k, 10 epochs each, with one thread each: in turn through `slots`, joblib and
one after the other, the whole command with its start and its table.

Then a search of tiny trainings by TPE: the seconds of a trial, and the memory of the search's process, as it grows.

    python -m benchmarks.search --seeds 10 --pairs 5 --trials 1000 --json search.json
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from scipy import stats

TRIALS, EPOCHS, AGAIN = 27, 9, 5
SPACE = ["optim.lr=tag(log, interval(0.003, 1))", "optim.momentum=interval(0, 0.95)", "model.width=choice(4,8,16)"]
TASK = ["dataset=mnist_5k", "model=cnn_adaptive", "optim=sgd_momentum", f"epochs={EPOCHS}", "device.threads=1"]
QUIET = ["tracking=none", "figures=false", "callbacks=none"]
WAYS = {"full": [], "halving": [], "one_epoch": ["hydra.sweeper.keep=3"]}


def command(*arguments: str, folder: Path) -> str:
    """Run a command of the package in a folder; return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def searched(way: str, seed: int, folder: Path, limits: list[str]) -> dict[str, Any]:
    """Run one search; return its winner, what that was given, and the epochs trained in all."""
    settings = [
        "hydra/launcher=slots",
        "hydra/sweeper=optuna",
        "hydra/sweeper/sampler=random",
        f"hydra.sweeper.n_trials={TRIALS}",
    ]
    settings += [
        f"hydra.sweeper.seed={seed}",
        f"hydra.sweeper.rungs={way}",
        *WAYS[way],
        f"hydra.sweep.dir={way}-{seed}",
    ]
    command("-m", *TASK, *QUIET, *SPACE, *settings, *limits, folder=folder)
    lines = [json.loads(line) for line in (folder / f"{way}-{seed}" / "trials.jsonl").read_text().splitlines()]
    given = {line["trial"]: line["set"] for line in lines if "set" in line}
    ends = {line["trial"]: line for line in lines if "epochs" in line}
    finished = {n: line["values"][0] for n, line in ends.items() if line["epochs"] == EPOCHS and "values" in line}
    winner = min(finished, key=lambda number: finished[number])
    return {"winner": winner, "given": given[winner], "epochs": sum(line["epochs"] for line in ends.values())}


def losses(given: dict[str, Any], name: str, folder: Path, limits: list[str]) -> list[float]:
    """Return the best validation loss of some settings for each of a few seeds."""
    settings = [f"{key}={value}" for key, value in given.items()]
    command(
        "-m",
        "hydra/launcher=slots",
        *TASK,
        *QUIET,
        *settings,
        *limits,
        f"seed=range({AGAIN})",
        f"hydra.sweep.dir={name}",
        folder=folder,
    )
    found = []
    for seed in range(AGAIN):
        lines = map(json.loads, (folder / name / str(seed) / "journal.jsonl").read_text().splitlines())
        found.append(
            [line["values"]["best/valid_loss"] for line in lines if "best/valid_loss" in line.get("values", {})][-1]
        )
    return found


def launchers(pairs: int, folder: Path, limits: list[str]) -> dict[str, list[float]]:
    """Return the seconds of each launcher's sweeps, and the share of the time that slots were busy."""
    found: dict[str, list[float]] = {name: [] for name in ("slots", "joblib", "basic", "busy")}
    sweep = ["-m", *TASK[:2], "epochs=10", "device.threads=1", *QUIET, "optim.lr=0.05,0.1,0.15,0.2", "seed=0,1,2,3"]
    for pair in range(pairs):
        for name in ("slots", "joblib", "basic"):
            place = f"hydra.sweep.dir=launched-{name}-{pair}"
            began = time.perf_counter()
            said = command(*sweep, *limits, f"hydra/launcher={name}", place, folder=folder)
            found[name].append(time.perf_counter() - began)
            found["busy"] += [float(share) for share in re.findall(r"busy (\d+) %", said)]
        told = ", ".join(f"{name} {found[name][-1]:.1f} s" for name in ("slots", "joblib", "basic"))
        print(f"pair {pair}  {told}; slots busy {found['busy'][-1]:.0f} %", flush=True)
    for other in ("joblib", "basic") if pairs else ():
        ratios = [one / two for one, two in zip(found["slots"], found[other], strict=True)]
        print(f"slots/{other}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return found


def growth(trials: int, folder: Path) -> list[dict[str, float]]:
    """Return the seconds a trial and the memory of a long search, by its hundreds of trials."""
    tiny = ["dataset=synthetic", "dataset.train=16", "dataset.valid=8", "model=logistic", "epochs=1"]
    settings = ["hydra/sweeper=optuna", f"hydra.sweeper.n_trials={trials}", f"sweep.limit={trials}"]
    place = ["hydra.sweep.dir=growth", "optim.lr=tag(log, interval(0.001, 1))", "loader.batch_size=choice(2,4,8)"]
    told = [sys.executable, "-m", "experiments", "-m", *tiny, *QUIET, "device.threads=1", *settings, *place]
    with (folder / "growth.txt").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(told, cwd=folder, stdout=output, stderr=output)
        rows, lines, since, before = [], folder / "growth" / "trials.jsonl", time.perf_counter(), 0
        while process.poll() is None:
            time.sleep(0.2)
            done = lines.read_text(encoding="utf-8").count('"epochs"') if lines.exists() else 0
            if done - before >= 100:
                now, memory = time.perf_counter(), psutil.Process(process.pid).memory_info().rss / 2**20
                rows.append({"trials": done, "seconds": (now - since) / (done - before), "MiB": memory})
                print(f"{done:5} trials  {1000 * rows[-1]['seconds']:.0f} ms a trial  {memory:.0f} MiB", flush=True)
                since, before = now, done
    if process.returncode:
        raise SystemExit((folder / "growth.txt").read_text(encoding="utf-8"))
    return rows


def searches(seeds: int, folder: Path, limits: list[str]) -> list[dict[str, Any]]:
    """Return how each way of each seed compares with the full search."""
    rows = []
    for seed in range(seeds):
        found = {way: searched(way, seed, folder, limits) for way in WAYS}
        best = found["full"]
        for way in ("halving", "one_epoch"):
            other, interval = found[way], None
            if other["winner"] != best["winner"]:
                pairs = [
                    losses(one["given"], f"{way}-{seed}-{place}", folder, limits)
                    for place, one in enumerate((other, best))
                ]
                differences = [one - two for one, two in zip(*pairs, strict=True)]
                half = float(stats.t.ppf(0.975, AGAIN - 1)) * statistics.stdev(differences) / AGAIN**0.5
                interval = [statistics.mean(differences) - half, statistics.mean(differences) + half]
            alike = interval is None or interval[0] <= 0 <= interval[1]
            rows.append(
                {
                    "seed": seed,
                    "way": way,
                    **other,
                    "full": best["winner"],
                    "full_epochs": best["epochs"],
                    "interval": interval,
                    "alike": alike,
                }
            )
            told = "the same trial" if interval is None else f"{interval[0]:+.4f} .. {interval[1]:+.4f}"
            epochs = f"{other['epochs']:3} of {best['epochs']} epochs"
            print(f"seed {seed}  {way:9}  {epochs}  trials {other['winner']}, {best['winner']}: {told}", flush=True)
    for way in ("halving", "one_epoch") if seeds else ():
        mine = [row for row in rows if row["way"] == way]
        alike = sum(row["alike"] for row in mine)
        print(f"{way}: the full search's winner, or within noise of it, in {alike} of {len(mine)}")
    return rows


def main() -> None:
    """Print a row for each seed and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5, help="of the launchers' times")
    parser.add_argument("--trials", type=int, default=1000, help="of the long search")
    parser.add_argument("--limit-batches", type=int, help="of an epoch, to try the benchmark itself")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    limits = [f"limit_batches={options.limit_batches}"] if options.limit_batches else []
    with tempfile.TemporaryDirectory() as name:
        rows = searches(options.seeds, Path(name), limits)
        times = launchers(options.pairs, Path(name), limits)
        grown = growth(options.trials, Path(name)) if options.trials else []
    if options.json:
        options.json.write_text(
            json.dumps({"searches": rows, "launchers": times, "growth": grown}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
