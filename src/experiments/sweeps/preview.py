"""What a sweep or a run would do, without doing it: the settings, state, time and disk of each job."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from experiments import live, ranks
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


class Preview:
    """Takes the jobs one by one, keeps a line of each, and shows them all; `sweep` need not exist yet."""

    def __init__(self, sweep: Path, output_root: str, varied: Sequence[str]) -> None:
        self.sweep, self.varied = sweep, varied
        self.names: list[str] = []
        self._earlier = Earlier(Path(output_root), sweep)
        self._rows: list[tuple[str, ...]] = []
        self._states: Counter[str] = Counter()
        self._costs: list[tuple[float, float]] = []  # seconds and bytes, where they are known

    def add(self, job: ComposedJob) -> None:
        """Find the state and the cost of a job, which was checked as a run is."""
        root, params = job.config.root, metadata.params(job.config.values)
        state = state_of(self.sweep / job.name)
        if state.name == NEW and (same := self._earlier.same(root, params)) is not None:
            state = _again(same, root.reuse)
        shown = ("", "", "")
        if state.name in TO_DO:
            shown = ("unknown", "unknown", "no run like it")
            if (cost := self._earlier.cost(root, params)) is not None:
                seconds = cost.other_seconds + cost.epoch_seconds * max(root.epochs - state.epochs, 0)
                self._costs.append((seconds, cost.disk_bytes))
                runs = f"{cost.runs} {'run' if cost.runs == 1 else 'runs'}"
                shown = (live.duration(seconds), _size(cost.disk_bytes), runs)
        self.names.append(job.name)
        self._states[state.name] += 1
        given = (job.given.get(key, "") for key in self.varied)
        self._rows.append((job.name, *given, state.name, *shown, state.note))

    def show(self) -> None:
        """Show the table of all jobs, and their cost together."""
        names = ("job", *self.varied, "state", "time", "disk", "known from", "note")
        terminal.show([dict(zip(names, row, strict=True)) for row in self._rows], least=names[:-4:-1])
        states = ", ".join(f"{count} {name}" for name, count in self._states.items())
        log.info("%d %s: %s", len(self._rows), "job" if len(self._rows) == 1 else "jobs", states)
        log.info("%s", self._total())
        log.info("nothing was started; without sweep.preview=true it would be")

    def _total(self) -> str:
        to_do = sum(self._states[name] for name in TO_DO)
        if not to_do:
            return "nothing is left to do"
        if not self._costs:
            return "time and disk are unknown: no run like them has finished yet"
        seconds, size = (sum(amounts) for amounts in zip(*self._costs, strict=True))
        total = f"one after the other about {live.duration(seconds)}, and {_size(size)} of disk"
        unknown = to_do - len(self._costs)
        return total + (f"; the cost of {unknown} other jobs is unknown" if unknown else "")


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
