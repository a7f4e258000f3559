"""Runs to compare, written by hand: a journal each, and what a sweep and its pictures leave."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.tracking import journal

SETTINGS = {
    "model.name": "mlp",
    "optim.lr": "0.1",
    "loss.name": "cross_entropy",
    "loader.batch_size": "10",
    "seed": "0",
}
DATA = {"sizes": {"train": 100, "valid": 20}}


def run(
    folder: Path,
    losses: Sequence[float],
    *,
    status: str | None = "FINISHED",
    seed: int = 0,
    settings: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    accuracies: Sequence[float] | None = None,
    metric: str = "valid/loss",
    **start: Any,
) -> Path:
    """A run with these validation losses; without a status it still runs."""
    params = {**SETTINGS, "seed": str(seed), **(settings or {})}
    details: dict[str, Any] = {
        "name": folder.name,
        "experiment": "experiments",
        "store": None,
        "tags": {"model": params["model.name"], **(tags or {})},
        "params": params,
        "parent": None,
        "overrides": [],
        "identity": {key: value for key, value in params.items() if key != "seed"} | {"seeds.init": seed},
        "data": DATA,
    }
    written = journal.Journal(folder)
    written.start(**{**details, **start})
    for epoch, loss in enumerate(losses):
        values = {metric: loss, "time/epoch_seconds": 1.5}
        if metric == "valid/loss":
            values["train/loss"] = loss + 0.1
        if accuracies is not None:
            values["valid/accuracy"] = accuracies[epoch]
        written.metrics(values, epoch)
    if status:
        written.end(status, "" if status == "FINISHED" else "it broke\nbadly")
    else:
        written.close()
    return folder


def sweep(folder: Path, seeds: int = 0) -> Path:
    """A sweep's folder with its plan; with seeds, two models with so many of them, the second better by 0.05."""
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text(json.dumps({"varied": ["model", "seed"]}), encoding="utf-8")
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 0.05, seeds)
    for number, (name, base) in enumerate((("mlp", 0.4), ("cnn", 0.35))):
        for seed in range(seeds):
            loss = base + shared[seed] + rng.normal(0, 0.01)
            run(folder / str(number * seeds + seed), [loss + 0.1, loss], seed=seed, settings={"model.name": name})
    return folder


def pictures(folder: Path, wrong: int = 3, labels: Sequence[str] = ("0", "1", "2")) -> None:
    """What a run keeps of the digits that it reads wrongly."""
    rng = np.random.default_rng(0)
    np.savez(
        folder / "pictures.npz",
        labels=np.array(labels),
        worst=rng.random((wrong, 1, 8, 8), np.float32),
        worst_true=np.arange(wrong),
        worst_predicted=(np.arange(wrong) + 1) % len(labels),
        worst_probability=np.full(wrong, 0.9, np.float32),
    )
