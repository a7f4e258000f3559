"""A run in its journal: typed events, and one record that sums them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.tracking import journal

RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
PAUSED = "PAUSED"  # ended as asked, before its last epoch
PARAMETERS = "experiments.parameters"  # the tag with how many a model has


@dataclass(frozen=True)
class Owner:
    """The process that trains a run, or trained it last."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Place:
    """Where a run or a sweep was started, so that a later process finds the same files and components."""

    folder: str = ""  # the working folder; old journals have none
    components: str = ""  # the user's components that the environment named


@dataclass(frozen=True, kw_only=True)
class Start:
    """What was known of a run before its first step; without an id the run never started.

    Args:
        id: the journal's.
        time: in ms.
        experiment: its experiment in MLflow.
        store: the MLflow store that it goes to, without a password; None if it is not tracked.
        tags: in MLflow; the chosen options by group, and `experiments.*`.
        params: the settings by dotted key.
        note: the description.
        inputs: the dataset's splits, in MLflow's form.
        parent: the folder of the sweep that it is a job of.
        varied: the overridden keys that differ between the sweep's jobs.
        identity: everything that determines the result, by dotted key.
        data: the data spec; empty in a sweep's journal.
    """

    id: str = ""
    time: int = 0
    name: str = ""
    experiment: str | None = None
    store: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    inputs: Sequence[Mapping[str, str]] = ()
    parent: Path | None = None
    varied: Sequence[str] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    place: Place = Place()

    @property
    def is_sweep(self) -> bool:
        """Return whether this is the journal of a sweep, not of a job."""
        return "experiments.sweep" in self.tags


@dataclass(frozen=True)
class Measured:
    """Metrics of one step, the epoch from 0; `time` in ms."""

    time: int
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Resumed:
    """A run that was resumed, and the settings that changed."""

    changed: Mapping[str, str]


@dataclass(frozen=True)
class Ended:
    """How a run ended; `time` in ms; `note` and `tags` for MLflow."""

    time: int
    status: str
    reason: str
    note: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Tagged:
    """What was found about a run after its end, as tags for MLflow."""

    tags: Mapping[str, str]


Event = Start | Measured | Resumed | Ended | Tagged


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run's state and results.

    Args:
        folder: the run's.
        status: RUNNING if the journal has no end, FINISHED, PAUSED, FAILED or KILLED.
        reason: why it failed or was killed.
        owner: the process that started or resumed it last; None if the journal does not name it.
        overrides: the command line's at its last start or resumption.
        run_key: its present key, which changes when it is trained longer.
        metrics: each metric by name and step.
        history: the metrics of each finished epoch, from epoch 0.
        changed: settings that it was resumed with, where they are not those of its start.
        ended: when, in ms; 0 if it has not.
    """

    folder: Path
    start: Start = Start()
    status: str = RUNNING
    reason: str = ""
    owner: Owner | None = None
    overrides: Sequence[str] = ()
    run_key: str | None = None
    metrics: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    history: Sequence[dict[str, float]] = ()
    resumed: bool = False
    changed: Mapping[str, str] = field(default_factory=dict)
    ended: int = 0

    @property
    def started(self) -> bool:
        """Return whether the run ever started."""
        return bool(self.start.id)

    @property
    def finished(self) -> bool:
        """Return whether it ran to its end."""
        return self.status == FINISHED

    @property
    def figures(self) -> dict[str, float]:
        """Return the last value of each metric."""
        return {name: list(values.values())[-1] for name, values in self.metrics.items()}

    def series(self, name: str) -> list[float]:
        """Return the values of a metric in order; empty if there is none."""
        return list(self.metrics.get(name, {}).values())


def read(folder: Path) -> RunRecord:
    """Return the record of the run in a folder, which has a journal."""
    found: dict[str, Any] = {}
    metrics: dict[str, dict[int, float]] = {}
    epochs: dict[int, dict[str, float]] = {}
    for line, _ in journal.lines(folder / journal.FILE):
        event = _event(line)
        if "owner" in line:
            found["owner"] = Owner(line["owner"]["host"], line["owner"]["pid"])
        if "overrides" in line:
            found["overrides"] = tuple(line["overrides"])
        if isinstance(event, Start):
            found |= {"start": event, "run_key": event.tags.get("experiments.run_key")}
        elif isinstance(event, Measured):
            for name, value in event.values.items():
                metrics.setdefault(name, {})[event.step] = value
            if "train/loss" in event.values or event.step in epochs:
                epochs.setdefault(event.step, {}).update(event.values)
        elif isinstance(event, Resumed):
            found |= {"status": RUNNING, "reason": "", "resumed": True, "ended": 0}
            found["changed"] = event.changed  # each time against the start
            found["run_key"] = line.get("run_key", found.get("run_key"))
        elif isinstance(event, Ended):
            found |= {"status": event.status, "reason": event.reason, "ended": event.time}
    history = [epochs[step] for step in sorted(epochs)]
    return RunRecord(folder=folder, metrics=metrics, history=history, **found)


def start_of(folder: Path) -> Start:
    """Return a run's start, from the first line of its journal; without an id if there is none."""
    if not (folder / journal.FILE).is_file():
        return Start()
    first = next((line for line, _ in journal.lines(folder / journal.FILE)), None)
    event = None if first is None else _event(first)
    return event if isinstance(event, Start) else Start()


def events(folder: Path, offset: int = 0) -> Iterator[tuple[Event, int]]:
    """Yield a journal's events from a byte offset on, each with the offset after it."""
    for line, behind in journal.lines(folder / journal.FILE, offset):
        event = _event(line)
        if event is not None:
            yield event, behind


def _event(line: Mapping[str, Any]) -> Event | None:
    """Return a journal's line as an event; None for an event of a newer version."""
    kind, time = line["event"], line["time"]
    if kind == "start":
        known = {name: line[name] for name in Start.__dataclass_fields__ if line.get(name) is not None}
        parent, place = line.get("parent"), line.get("place") or {}
        return Start(**known | {"parent": Path(parent) if parent else None, "place": Place(**place)})
    if kind == "metrics":
        return Measured(time, line["step"], line["values"])
    if kind == "resume":
        return Resumed(line["changed"])
    if kind == "end":
        note, tags = line.get("note") or "", line.get("tags") or {}
        return Ended(time, line["status"], line["reason"], note, tags)
    if kind == "tags":
        return Tagged(line["tags"])
    return None


def run_key(folder: Path) -> str | None:
    """Return the present run key of the run in a folder; None if there is no run."""
    return read(folder).run_key if (folder / journal.FILE).is_file() else None
