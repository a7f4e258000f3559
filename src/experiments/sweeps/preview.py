"""What a sweep would do, and nothing of it done: each job with what differs, its state, and what it will take."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.runs import metadata, references
from experiments.runs.folder import reason, refusal
from experiments.runs.tables import table
from experiments.runs.terminal import relative
from experiments.sweeps.estimate import Cost, Earlier
from experiments.sweeps.jobs import ComposedJob
from experiments.tracking import journal, record
from experiments.tracking.ownership import is_running

log = logging.getLogger(__name__)

NEW, DONE, HALF, FAILED, RUNNING = "new", "done", "half-done", "failed", "running"


@dataclass(frozen=True)
class State:
    """What there is of a job already.

    Args:
        name: new, done, half-done, failed or running.
        epochs: how many of its epochs are done.
        told: what else there is to say of it.
    """

    name: str
    epochs: int = 0
    told: str = ""


class Preview:
    """Takes the jobs one by one, keeps a line of each, and shows them all.

    Args:
        sweep: the folder that the sweep has or would have.
        output_root: where earlier runs lie.
        varied: the keys that the jobs differ in.
    """

    def __init__(self, sweep: Path, output_root: str, varied: Sequence[str]) -> None:
        self.sweep, self.varied = sweep, varied
        self.earlier = Earlier(Path(output_root), sweep)
        self.names: list[str] = []
        self._rows: list[tuple[str, ...]] = []
        self._states: Counter[str] = Counter()
        self._seconds = self._bytes = 0.0
        self._unknown, self._runs = 0, 0

    def add(self, job: ComposedJob) -> None:
        """Find out what one job is and will take; it was checked as a run is."""
        params = metadata.params(job.config.values)
        state = state_of(self.sweep / job.name)
        if state.name == NEW and (same := self.earlier.same(job.config.root, params)) is not None:
            state = _again(same, job.config.root.reuse)
        self.names.append(job.name)
        self._states[state.name] += 1
        given = (job.given.get(key, "") for key in self.varied)
        cost = self.earlier.cost(job.config.root, params) if state.name in (NEW, HALF, FAILED) else None
        self._rows.append((job.name, *given, state.name, *self._cost(job, state, cost), state.told))

    def show(self) -> None:
        """The table of all jobs, and what they take together."""
        names = ("job", *self.varied, "state", "time", "disk", "known from", "")
        log.info("\n%s\n", table([dict(zip(names, row, strict=True)) for row in self._rows]))
        states = ", ".join(f"{count} {name}" for name, count in self._states.items())
        log.info("%d %s: %s", len(self._rows), "job" if len(self._rows) == 1 else "jobs", states)
        log.info("%s", self._total())
        log.info("nothing was started; without sweep.preview=true it would be")

    def _cost(self, job: ComposedJob, state: State, cost: Cost | None) -> tuple[str, str, str]:
        """Time, disk and how many runs that is known from; of a job that is left as it is, nothing."""
        if state.name in (DONE, RUNNING):
            return "", "", ""
        if cost is None:
            self._unknown += 1
            return "unknown", "unknown", "no run like it"
        seconds = cost.other_seconds + cost.epoch_seconds * max(job.config.root.epochs - state.epochs, 0)
        self._seconds, self._bytes = self._seconds + seconds, self._bytes + cost.disk_bytes
        self._runs = max(self._runs, cost.runs)
        return _time(seconds), _size(cost.disk_bytes), f"{cost.runs} {'run' if cost.runs == 1 else 'runs'}"

    def _total(self) -> str:
        to_do = sum(self._states[name] for name in (NEW, HALF, FAILED))
        if not to_do:
            return "nothing is left to do"
        if self._unknown == to_do:
            return "time and disk are unknown: no run like them has finished yet"
        told = f"one after the other about {_time(self._seconds)}, and {_size(self._bytes)} of disk"
        return told + (f"; beside {self._unknown} jobs of which nothing is known" if self._unknown else "")


def state_of(folder: Path) -> State:
    """What there is of the job in a folder, found without touching it."""
    if (folder / journal.FILE).is_file():
        run = record.read(folder)
        epochs = len(run.history)
        done = f"{epochs} {'epoch' if epochs == 1 else 'epochs'} done"
        if run.finished:
            return State(DONE, epochs)
        if run.status == "FAILED":
            return State(FAILED, epochs, f"{done}; {_line(refusal(folder) or run.reason)}")
        if is_running(folder):
            return State(RUNNING, epochs, f"{done}; {run.owner}")
        return State(HALF, epochs, done)
    if (found := references.referred(folder)) is not None:
        return State(DONE, told=f"reused from {relative(found)}")
    if told := reason(folder):
        return State(FAILED, told=_line(told))
    return State(NEW, told=references.lost(folder) or "")


def _again(same: Path, policy: str) -> State:
    if policy == "finished":
        return State(DONE, told=f"reuse=finished takes {relative(same)}")
    return State(NEW, told=f"trained before: {relative(same)} (reuse=finished would take it)")


def _line(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= 80 else f"{line[:80]} ..."


def _time(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
