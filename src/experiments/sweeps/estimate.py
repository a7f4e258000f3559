"""Estimates from earlier runs: the time and disk of a similar run, and a finished run of the same training.

Runs are similar whose names, whole numbers and lists in the settings are the same, on as many threads of such a device:
rates and seeds do not change the cost. Times are read from the newest journals below one output folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from experiments.config.device import pick
from experiments.config.root import RootConfig
from experiments.config.secrets import masked_deep
from experiments.runs import index
from experiments.runs.fingerprint import PLACES, identity
from experiments.seeds import derive
from experiments.tracking import delivered, journal, record
from experiments.tracking.record import Start

NEWEST = 2000  # journals that are read
SAMPLE = 20  # runs of a kind that are measured
# Settings that decide the cost of a run: groups and single keys.
COSTING = ("dataset", "model", "loss", "optim", "loader", "scheduler", "transforms", "metrics", "callbacks", "device")
COSTING_TOO = ("limit_batches", "figures", "checkpoint.best", "tracking.name")
NO_RUNS = ("artifacts", "checkpoints", ".hydra", ".submitit")  # folders without runs below
DATA = "content of dataset"


@dataclass(frozen=True)
class Cost:
    """The cost of a run, as the median of earlier ones."""

    runs: int  # how many earlier ones
    epoch_seconds: float  # with the validation
    other_seconds: float  # all but the epochs
    disk_bytes: float  # of its folder and of MLflow's copies of its files


class Earlier:
    """The newest runs: the first line of each is read, and the rest of some similar to a job.

    A resumed `sweep` may be outside the folder of all runs, `output_root`.
    """

    def __init__(self, output_root: Path, sweep: Path) -> None:
        self.output_root = output_root
        self._alike: dict[bytes, list[Path]] = defaultdict(list)
        self._same: dict[bytes, str] = {}
        self._costs: dict[bytes, Cost | None] = {}
        for folder, start in _newest(output_root, sweep):
            found = start.identity
            machine = (found.get("machine.device"), found.get("machine.threads"))
            runs = self._alike[_hash(_costing(start.params), machine)]
            if len(runs) < SAMPLE:
                runs.append(folder)
            if found.get("content of init_from") is None:
                key = start.tags.get("experiments.run_key", "")
                self._same.setdefault(_sameness(found, start.params), key)

    def cost(self, root: RootConfig, params: Mapping[str, str]) -> Cost | None:
        """Return the cost of runs similar to a job; None where no such run has finished."""
        kind = _hash(_costing(params), (pick(root.device).type, _threads(root)))
        if kind not in self._costs:
            self._costs[kind] = _median(self.output_root, self._alike.pop(kind, []))
        return self._costs[kind]

    def same(self, root: RootConfig, params: Mapping[str, str]) -> Path | None:
        """Return the finished run that a job would repeat, assuming that the data at its path is the same.

        None also for a job that starts from trained weights, which would have to be read.
        """
        if root.init_from is not None or not self._same:
            return None
        seeds = asdict(derive(root.seed, root.seeds.model_dump()))
        found = identity(root, digest="", seeds=seeds, device=pick(root.device), init=None)
        found["machine.threads"] = _threads(root)
        key = self._same.get(_sameness(masked_deep(found), masked_deep(dict(params))))
        return index.finished(self.output_root, key) if key else None


def _newest(*roots: Path) -> Iterator[tuple[Path, Start]]:
    """Yield the runs that were written to last, with the first event of each; not sweeps."""
    modified = {}
    for root in roots:
        for folder, below, names in os.walk(root.resolve()):
            below[:] = [name for name in below if name not in NO_RUNS]
            if journal.FILE in names:
                path = Path(folder, journal.FILE)
                modified[path] = path.stat().st_mtime
    for path in sorted(modified, key=lambda path: -modified[path])[:NEWEST]:
        start = record.start_of(path.parent)
        if start.params and not start.is_sweep:
            yield path.parent, start


def _costing(params: Mapping[str, str]) -> dict[str, str]:
    kept = {}
    for key, value in params.items():
        group, _, name = key.partition(".")
        if key in COSTING_TOO or (group in COSTING and name not in PLACES and not key.endswith("seed")):
            kept[key] = "rate" if _is_rate(value) else value
    return kept


def _is_rate(value: str) -> bool:
    try:
        return isinstance(json.loads(value), float)
    except ValueError:
        return False


def _threads(root: RootConfig) -> int:
    return root.device.threads or torch.get_num_threads()


def _sameness(found: Mapping[str, Any], params: Mapping[str, str]) -> bytes:
    """Hash what is the same training if the same data is still at the same path."""
    places = {key: value for key, value in params.items() if key.startswith("dataset.")}
    return _hash({key: value for key, value in found.items() if key != DATA}, places)


def _hash(*content: Any) -> bytes:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).digest()[:16]


def _median(output_root: Path, folders: list[Path]) -> Cost | None:
    costs = [cost for folder in folders if (cost := _measured(output_root, folder)) is not None]
    return Cost(len(costs), *map(median, zip(*costs, strict=True))) if costs else None


def _measured(output_root: Path, folder: Path) -> tuple[float, float, float] | None:
    """Return what a run took, as in `Cost`; None for one that has not finished, or has no timed epoch."""
    run = record.read(folder)
    seconds = run.series("time/epoch_seconds")
    if not seconds or not run.finished:
        return None
    # The time between the parts of a resumed run is not its own.
    other = 0.0 if run.resumed else (run.ended - run.start.time) / 1000 - sum(seconds)
    return sum(seconds) / len(seconds), max(other, 0.0), _disk(output_root, folder)


def _disk(output_root: Path, folder: Path) -> int:
    copies = output_root / "artifacts" / (delivered.state(folder).run_id or "none")
    return sum(path.stat().st_size for place in (folder, copies) for path in place.rglob("*") if path.is_file())
