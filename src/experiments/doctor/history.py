"""Layer a: rules over a run's journal, which cost nothing."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from experiments.doctor.finding import MIN_STEPS, Found, Rules
from experiments.runs import pictures
from experiments.tracking import record
from experiments.tracking.record import RunRecord
from experiments.training.result import not_finite

EVEN = 4  # falls of one size that are no accident, however large
ENTROPIES = ("cross_entropy", "nll_by_hand")  # whose loss without any knowledge is the entropy of the classes


@dataclass(frozen=True)
class Trained:
    """A run, and the classes that its trained model never predicts."""

    run: RunRecord
    never: tuple[str, ...] = ()

    def setting(self, key: str, default: Any = None) -> Any:
        """Return a number or switch of the configuration."""
        return json.loads(self.run.start.params.get(key, "null")) or default

    def series(self, name: str) -> list[float]:
        """Return a metric of each epoch; empty unless the training is long enough, of a plain step and finite."""
        params, losses = self.run.start.params, [epoch[name] for epoch in self.run.history if name in epoch]
        rows = self.run.start.data["sizes"]["train"]
        steps = min(math.ceil(rows / self.setting("loader.batch_size")), self.setting("limit_batches", math.inf))
        long = (
            len(losses) * steps / self.setting("accumulate", 1) >= MIN_STEPS
            and params.get("step.name", "supervised") == "supervised"
        )
        return losses if long and all(map(math.isfinite, losses)) else []

    @cached_property
    def valid(self) -> list[float]:
        """The validation losses."""
        return self.series("valid/loss")

    @cached_property
    def train(self) -> list[float]:
        """The training losses."""
        return self.series("train/loss")

    @property
    def untrained(self) -> float:
        """The validation loss before the first step, from fresh weights; else NaN, which no comparison holds for."""
        fresh = self.run.start.params.get("init_from", "null") == "null"
        return self.run.metrics.get("untrained/valid_loss", {}).get(0, math.nan) if fresh else math.nan

    @property
    def learnt(self) -> float:
        """How far the training loss fell: near 0 a loss doubles by one wrong row, so a share of this is what counts."""
        return (self.train[0] if math.isnan(self.untrained) else self.untrained) - min(self.train)

    @property
    def shares(self) -> list[float]:
        """Each class's share of the training rows, for one label a row and a loss that is an entropy; else empty."""
        data = self.run.start.data
        if not data["classes"] or data.get("places") or self.run.start.params["loss.name"] not in ENTROPIES:
            return []
        counts = data.get("counts") or [1] * data["outputs"]
        return [count / sum(counts) for count in counts if count]

    def rate(self, factor: float) -> str:
        """Return the learning rate times a factor, as an override."""
        return f"optim.lr={self.setting('optim.lr', math.nan) * factor:g}"


rule: Rules[Trained] = Rules()


def observe(folder: Path) -> Trained:
    """Return the run in a folder, with what `pictures.collect` kept."""
    if not (folder / pictures.FILE).is_file():
        return Trained(record.read(folder))
    with np.load(folder / pictures.FILE, allow_pickle=False) as kept:
        return Trained(record.read(folder), tuple(kept["never"].tolist()) if "never" in kept else ())


@rule("not-finite")
def _not_finite(run: Trained) -> Found:
    bad = [*not_finite(run.run.history).values()] or [run.run.reason] * ("not finite" in run.run.reason)
    largest = max((epoch["valid/loss"] for epoch in run.run.history), default=0.0)
    bad = bad or [f"valid/loss reached {largest:.3g}"] * (largest > 1e6 * max(run.untrained, 1))
    return (", ".join(bad), f"{run.rate(0.1)}, or max_grad_norm=1.0") if bad else None


@rule("weight-decay")
def _weight_decay(run: Trained) -> Found:
    share = run.setting("optim.lr", 0) * run.setting("optim.weight_decay", 0)
    remedy = f"optim.weight_decay={run.setting('optim.weight_decay', 0) / 1000:g}"
    # Usual are 1e-6 to 1e-4; at 2e-3 nothing older than 500 steps is left.
    return (f"each step takes {share:.2g} of each weight (lr x weight_decay)", remedy) if share >= 2e-3 else None


@rule("first-loss")
def _first_loss(run: Trained) -> Found:
    chance, remedy = math.log(max(1, len(run.shares))), "transforms=normalize, or smaller initial weights"
    # Usual initial weights give ln C to ln C + 1, and pixels of 0..255 more than 10.
    if len(run.shares) < 2 or 0.5 * chance <= run.untrained <= 2 * chance + 2 or math.isnan(run.untrained):
        return None
    remedy = remedy if run.untrained > chance else "look for the label in the model's input"
    said = f"an untrained model of {len(run.shares)} classes has about ln {len(run.shares)} = {chance:.2f}"
    return f"the loss before the first step is {run.untrained:.2f}; {said}", remedy


@rule("worse-than-untrained")
def _worse(run: Trained) -> Found:
    best = min(run.valid, default=math.nan)
    said = f"the best valid/loss is {best:.4f}, and {run.untrained:.4f} before the first step"
    return (said, run.rate(0.1)) if best > 1.05 * run.untrained > 0 else None


@rule("diverging")
def _diverging(run: Trained) -> Found:
    if len(run.train) < 2:
        return None
    low, last = min(run.train), run.train[-1]
    learnt = run.learnt
    rises = sum(other > 1.2 * one > 0 and other - one > 0.1 * learnt for one, other in pairwise(run.train))
    # An epoch's mean hardly rises where a training converges; above twice the start, the steps throw the weights about.
    oscillates, above = rises > max(1, len(run.train) // 4), last > 2 * run.untrained > 0
    said = (
        f"train/loss ends at {last:.4f}, after {low:.4f}, {rises} rises and {run.untrained:.4f} before the first step"
    )
    ends = last > 1.5 * low > 0 and last - low > 0.15 * learnt
    return (said, run.rate(0.1)) if ends or oscillates or above else None


@rule("creeping")
def _creeping(run: Trained) -> Found:
    losses = run.valid if len(run.valid) > EVEN else [run.untrained, *run.valid]
    falls = [one - other for one, other in pairwise(losses)]
    share = (run.untrained - losses[-1]) / abs(run.untrained or 1)
    # Learning is fastest at its beginning: falls of one size mean that it has not left it.
    even = len(falls) > 1 and 0 < max(falls) < 1.6 * min(falls) and 1e-5 < share < (0.5 if len(falls) >= EVEN else 0.15)
    said = (
        f"valid/loss fell by {share:.2%} in all, by {min(falls, default=0):.2g} to {max(falls, default=0):.2g} an epoch"
    )
    return (said, run.rate(10)) if even else None


@rule("at-chance")
def _at_chance(run: Trained) -> Found:
    accuracy = (run.series("valid/accuracy") or [math.nan])[-1]
    if len(run.shares) < 2 or not run.valid:
        return None
    entropy, share = -sum(p * math.log(p) for p in run.shares), max(run.shares)
    limit = share + 3 * math.sqrt(share * (1 - share) / run.run.start.data["sizes"]["valid"])  # 3 sd of guesses
    remedy = "check that rows and labels have one order" + (
        "" if run.train[-1] < 0.9 * entropy else f"; {run.rate(0.1)}"
    )
    said = (
        f"valid/loss {min(run.valid):.4f} and valid/accuracy {accuracy:.4f}; guessing has {entropy:.4f} and {share:.4f}"
    )
    return (said, remedy) if min(run.valid) > 0.97 * entropy and accuracy <= limit else None


@rule("class-never-predicted")
def _never(run: Trained) -> Found:
    said = f"the trained model never predicts these classes, which validation rows have: {', '.join(run.never)}"
    return (said, "no ReLU after the last layer, or more epochs") if run.never and run.valid else None


@rule("overfitting")
def _overfitting(run: Trained) -> Found:
    if len(run.valid) < 3:
        return None
    best = run.valid.index(min(run.valid))
    low, last, fell = run.valid[best], run.valid[-1], run.train[best] - run.train[-1]
    # From epoch to epoch a validation loss varies by some per cent; here three epochs are above, the last by a fifth.
    sure = len(run.valid) - best > 3 and min(run.valid[best + 1 :]) > 1.05 * low > 0 and last > 1.2 * low
    said = f"since epoch {best} valid/loss rose from {low:.4f} to {last:.4f}, and train/loss fell by {fell:.4f}"
    return (said, f"epochs={best + 1}, or callbacks=early_stopping") if sure and fell > 0.05 * run.train[best] else None


@rule("validation-better")
def _validation_better(run: Trained) -> Found:
    params = {key: value for key, value in run.run.start.params.items() if value not in ("null", "0", "0.0", "{}")}
    noise = any(key.startswith(("transforms", "loader.draw")) or key.endswith("dropout") for key in params)
    # Against the validation before the epoch, whose weights had seen less.
    if noise or len(run.valid) < 2 or run.train[-1] < 2 * run.valid[-2] + 0.1 * run.learnt or run.valid[-2] <= 0:
        return None
    said = f"valid/loss was {run.valid[-2]:.4f} before the last epoch, whose train/loss is {run.train[-1]:.4f}"
    return said, "check that validation rows are not training rows, and as hard"
