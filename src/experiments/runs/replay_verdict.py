"""Whether a run and its repetition came to the same: every metric of every epoch but those of time, and the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experiments.tracking import record

TIMED = ("time/", "throughput/")
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Parting:
    """A value that is not the same.

    Args:
        epoch: from 0; None for weights.
        where: a metric, or `weights of NAME`.
        then: the run's; None where it is missing.
        now: the repetition's, likewise.
        size: the difference as a share of `then`, or of 1 where that is smaller.
    """

    epoch: int | None
    where: str
    then: float | None
    now: float | None
    size: float


@dataclass(frozen=True)
class Verdict:
    """Whether a run and its repetition came to the same.

    Args:
        word: identical (every bit), equal (no difference beyond the tolerance) or differs.
        first: the first difference; None if they are identical.
        largest: the size of the largest one.
        tolerance: up to which they are equal.
    """

    word: Literal["identical", "equal", "differs"]
    first: Parting | None = None
    largest: float = 0.0
    tolerance: float = TOLERANCE

    def __str__(self) -> str:
        if self.first is None:
            return "identical: every bit of every metric and of the weights"
        then, now = ("nothing" if value is None else repr(value) for value in (self.first.then, self.first.now))
        since = "after the last epoch" if self.first.epoch is None else f"from epoch {self.first.epoch}"
        where = f"{since}, first in {self.first.where}: {then}, then {now}; largest difference {self.largest:.3g}"
        return f"differs {where}" if self.word == "differs" else f"equal within {self.tolerance:g}; bits differ {where}"


def judge(one: Path, other: Path) -> Verdict:
    """Compare the runs in two folders, which have weights.

    Raises:
        ConfigError: one has none.
    """
    found = [*_metrics(one, other), *_weights(one, other)]
    largest = max((parting.size for parting in found), default=0.0)
    word: Literal["equal", "differs"] = "equal" if largest <= TOLERANCE else "differs"
    return Verdict(word, found[0], largest) if found else Verdict("identical")


def _metrics(one: Path, other: Path) -> Iterator[Parting]:
    before, after = record.read(one).metrics, record.read(other).metrics
    names = [name for name in {**before, **after} if not name.startswith(TIMED)]
    places = [(step, name) for name in names for step in {**before.get(name, {}), **after.get(name, {})}]
    for step, name in sorted(places, key=lambda place: place[0]):  # within an epoch as they were measured
        then, now = before.get(name, {}).get(step), after.get(name, {}).get(step)
        if then is None or now is None:
            yield Parting(step, name, then, now, math.inf)
        elif float(then).hex() != float(now).hex():  # NaN is NaN, and -0.0 is not 0.0
            size = abs(then - now) / max(1.0, abs(then))
            yield Parting(step, name, then, now, math.inf if math.isnan(size) else size)


def _weights(one: Path, other: Path) -> Iterator[Parting]:
    from experiments.training import weights  # torch takes seconds, which a mistake should not wait for

    before, after = weights.load(one, key=str(one)), weights.load(other, key=str(other))
    for name in () if weights.digest(before) == weights.digest(after) else {**before, **after}:
        if name not in before or name not in after or before[name].shape != after[name].shape:
            yield Parting(None, f"weights of {name}", None, None, math.inf)
        elif weights.digest({name: before[name]}) != weights.digest({name: after[name]}):
            a, b = (state[name].double().flatten() for state in (before, after))
            apart = ((a - b).abs() / a.abs().clamp(min=1)).nan_to_num(nan=math.inf)
            at = int(apart.argmax())
            yield Parting(None, f"weights of {name}", float(a[at]), float(b[at]), float(apart[at]))
