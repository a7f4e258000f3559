"""What a sweep or a run would do, without doing it: the settings, state, time and disk of each job."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from experiments import answer, live, ranks
from experiments.config.check import Checked
from experiments.config.hydra_internals import configure_log
from experiments.runs import metadata, references, terminal
from experiments.runs.folder import reason, refusal
from experiments.runs.preparation import prepare
from experiments.runs.terminal import relative
from experiments.sweeps.estimate import Earlier
from experiments.sweeps.jobs import ComposedJob
from experiments.tracking import journal, record
from experiments.tracking.ownership import is_running
from experiments.training import describe

log = logging.getLogger(__name__)

NEW, DONE, HALF, FAILED, RUNNING = "new", "done", "half-done", "failed", "running"
TO_DO = (NEW, HALF, FAILED)


@dataclass(frozen=True)
class State:
    """The state of a job: new, done, half-done, failed or running; its finished epochs; what else is known of it."""

    name: str
    epochs: int = 0
    note: str = ""


@dataclass(frozen=True)
class Planned:
    """A job that a sweep or a run would do.

    Args:
        job: its name.
        settings: those that the sweep varies.
        state: new, done, half-done, failed or running.
        epochs: that are done.
        seconds: that the rest takes; None where no run like it is known, or nothing is left.
        disk_bytes: that it needs, likewise.
        known_from: how many earlier runs say so.
        note: what else is known of its state.
    """

    job: str
    settings: Mapping[str, str]
    state: str
    epochs: int
    seconds: float | None
    disk_bytes: float | None
    known_from: int
    note: str


@dataclass(frozen=True)
class Plan:
    """What a sweep or a run would do.

    Args:
        jobs: all of them.
        seconds: that they take, one after the other, as far as it is known.
        disk_bytes: that they need, as far as it is known.
        unknown: how many jobs' cost is not known.
    """

    jobs: Sequence[Planned]
    seconds: float
    disk_bytes: float
    unknown: int


class Preview:
    """Takes the jobs one by one and shows them all; `sweep` need not exist yet."""

    def __init__(self, sweep: Path, output_root: str, varied: Sequence[str]) -> None:
        self.sweep, self.varied = sweep, varied
        self.jobs: list[Planned] = []
        self._earlier = Earlier(Path(output_root), sweep)

    @property
    def names(self) -> list[str]:
        """Return the names of the jobs."""
        return [job.job for job in self.jobs]

    def add(self, job: ComposedJob) -> None:
        """Find the state and the cost of a job, which was checked as a run is."""
        root, params = job.config.root, metadata.params(job.config.values)
        state = state_of(self.sweep / job.name)
        if state.name == NEW and (same := self._earlier.same(root, params)) is not None:
            state = _again(same, root.reuse)
        seconds, disk_bytes, runs = None, None, 0
        if state.name in TO_DO and (cost := self._earlier.cost(root, params)) is not None:
            seconds = cost.other_seconds + cost.epoch_seconds * max(root.epochs - state.epochs, 0)
            disk_bytes, runs = cost.disk_bytes, cost.runs
        given = {key: job.given.get(key, "") for key in self.varied}
        self.jobs.append(Planned(job.name, given, state.name, state.epochs, seconds, disk_bytes, runs, state.note))

    def show(self) -> None:
        """Show the table of all jobs, and their cost together."""
        known = [job for job in self.jobs if job.known_from]
        seconds, disk_bytes = sum(job.seconds or 0 for job in known), sum(job.disk_bytes or 0 for job in known)
        to_do = sum(job.state in TO_DO for job in self.jobs)
        plan = Plan(self.jobs, seconds, disk_bytes, to_do - len(known))
        answer.give(plan)
        terminal.show([_row(job) for job in self.jobs], least=("note", "known from", "disk"))
        states = ", ".join(f"{count} {name}" for name, count in Counter(job.state for job in self.jobs).items())
        log.info("%d %s: %s", len(self.jobs), "job" if len(self.jobs) == 1 else "jobs", states)
        log.info("%s", _total(plan, to_do))
        log.info("nothing was started; without sweep.preview=true it would be")


def _row(job: Planned) -> dict[str, str]:
    shown = ("", "", "")
    if job.state in TO_DO:
        shown = ("unknown", "unknown", "no run like it")
    if job.seconds is not None and job.disk_bytes is not None:
        runs = f"{job.known_from} {'run' if job.known_from == 1 else 'runs'}"
        shown = (live.duration(job.seconds), _size(job.disk_bytes), runs)
    names = ("state", "time", "disk", "known from", "note")
    return {"job": job.job, **job.settings, **dict(zip(names, (job.state, *shown, job.note), strict=True))}


def _total(plan: Plan, to_do: int) -> str:
    if not to_do:
        return "nothing is left to do"
    if plan.unknown == to_do:
        return "time and disk are unknown: no run like them has finished yet"
    total = f"one after the other about {live.duration(plan.seconds)}, and {_size(plan.disk_bytes)} of disk"
    return total + (f"; the cost of {plan.unknown} other jobs is unknown" if plan.unknown else "")


def show_run(config: DictConfig, checked: Checked) -> None:
    """Show what a single run would do."""
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    if not ranks.follows():
        folder = Path(config.hydra.run.dir)
        preview = Preview(folder.parent, checked.root.output_root, ())
        preview.add(ComposedJob(0, folder.name, {}, checked))
        preview.show()


def show_model(config: DictConfig, checked: Checked) -> None:
    """Show the layers of a run's model with fresh weights, neither compiled nor captured as a CUDA graph."""
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    if not ranks.follows():
        device = checked.root.device.model_copy(update={"compile": False, "graph": False})
        root = checked.root.model_copy(update={"device": device, "init_from": None})
        rows, total = describe.layers(prepare(root, config.hydra.overrides.task).runner(None))
        terminal.show(rows)
        log.info("%s", total)


def state_of(folder: Path) -> State:
    """Return the state of the job in a folder, which stays as it is."""
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
        return State(DONE, note=f"reused from {relative(found)}")
    if why := reason(folder):
        return State(FAILED, note=_line(why))
    return State(NEW, note=references.lost(folder) or "")


def _again(same: Path, policy: str) -> State:
    if policy == "finished":
        return State(DONE, note=f"reuse=finished takes {relative(same)}")
    return State(NEW, note=f"trained before: {relative(same)} (reuse=finished would take it)")


def _line(reason: str) -> str:
    line = " ".join(reason.split())
    return line if len(line) <= 80 else f"{line[:80]} ..."


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
