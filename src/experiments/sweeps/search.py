"""A search inside a sweep: Optuna chooses the settings of each trial by the results of the earlier ones.

With rungs, all trials train a few epochs and pause; the best are resumed up to the next rung, the others stay paused
and can be resumed at any time. What was decided is in the sweep's folder, so that a search that was interrupted goes on
exactly; no trial trains an epoch twice.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterator, Sequence
from concurrent import futures
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.config.check import Checked
from experiments.config.hydra_basic import BasicLauncher
from experiments.config.hydra_internals import JobReturn, JobStatus, Override, outcome
from experiments.errors import ConfigError, Fault, command, first_line, suggestion
from experiments.runs import references
from experiments.runs.terminal import relative
from experiments.sweeps import trials
from experiments.sweeps.monitor import Stopped, Watch
from experiments.sweeps.rungs import RUNGS, Ladder, Leg, Rung
from experiments.sweeps.space import Space
from experiments.sweeps.summary import NOTE
from experiments.sweeps.sweeper import Sweep
from experiments.sweeps.trials import Reached, TrialRecord, Trials
from experiments.tracking import client, journal, record
from experiments.tracking.record import PAUSED
from experiments.training.result import figure_names

log = logging.getLogger(__name__)

DIRECTIONS = ("minimize", "maximize")
POSITIVE = ("n_trials", "n_jobs", "factor", "keep")
STOPPED = "stopped by the search"  # begins the reason of a run that a rung stopped


class Search(Sweep):
    """Trials that Optuna chooses; the search space is checked before the first one."""

    known = False
    word = "trial"

    def _run(self, arguments: list[str], watch: Watch) -> None:
        """Run the trials, together those that do not wait for each other; one that fails is left out."""
        settings, sweep = self.config.hydra.sweeper, self._folder
        OmegaConf.save(self.config, sweep / "multirun.yaml")
        self.watch, self.space = watch, Space.of(self._parsed(arguments))
        self.trials = Trials(sweep, self.space, settings.sampler, self._directions, int(settings.seed), settings.n_jobs)
        self.ladder = Ladder.of(settings, self._epochs)
        self.tried, self.ended = set[Leg](), set[TrialRecord]()  # by this process: what failed before is tried again
        try:
            for leg, returned in self._returned():
                self._take(leg, returned)
                self._end()
        finally:
            self._end()
            self._conclude()

    @property
    def _folder(self) -> Path:
        return Path(self.config.hydra.sweep.dir).resolve()

    @property
    def _directions(self) -> list[str]:
        given = self.config.hydra.sweeper.direction
        return [given] * len(self.config.hydra.sweeper.objectives) if isinstance(given, str) else list(given)

    @property
    def _epochs(self) -> int:
        given = [one for one in self.space.fixed if one.startswith("epochs=")]
        return int(given[-1].partition("=")[2]) if given else int(self.config.epochs)

    def _ready(self, running: Collection[Leg] = ()) -> list[Leg]:
        """Return what can be trained now, and is not yet."""
        if self.watch.enough:
            if not running:
                raise Stopped
            return []
        records, settings = self.trials.records, self.config.hydra.sweeper
        first = self.ladder.epochs[0]
        while len(records) < settings.n_trials and all(Leg(one, first).done(self.tried) for one in self.trials.known):
            self.trials.choose()
        ready = [Leg(trial, rung.epochs) for rung in self._rungs() for trial in rung.left]
        return [leg for leg in ready if leg not in running]

    def _returned(self) -> Iterator[tuple[Leg, JobReturn]]:
        """Train all that there is to train, and return each job with what came of it."""
        running = dict[Future[JobReturn], Leg]()
        while (ready := self._ready(running.values())) or running:
            if hasattr(self.launcher, "submit"):  # slots, each of which takes the next job as soon as it is free
                running |= {self.launcher.submit(self._overrides(leg), leg.trial.number): leg for leg in ready}
                for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
                continue
            first = ready[0].trial.number
            if isinstance(self.launcher, BasicLauncher):
                ready = ready[:1]
            elif len(self.ladder.epochs) == 1:  # a launcher numbers jobs one after the other
                ready = [leg for place, leg in enumerate(ready) if leg.trial.number == first + place]
            returned = self.launcher.launch([self._overrides(leg) for leg in ready], initial_job_idx=first)
            yield from zip(ready, returned, strict=True)

    def _rungs(self) -> Iterator[Rung]:
        return self.ladder.rungs(self.trials.records, self.tried, self._rank)

    def _overrides(self, leg: Leg) -> list[str]:
        number = leg.trial.number
        pause = [f"pause_after={leg.epochs}"] if leg.epochs < self.ladder.epochs[-1] else []
        place = [f"hydra.sweep.subdir={number}"] if len(self.ladder.epochs) > 1 else []
        return [*self.space.overrides(leg.trial.given), *pause, *place]

    def _take(self, leg: Leg, job: JobReturn) -> None:
        """Keep what a job came to."""
        self.tried.add(leg)
        self.watch.take([job], [leg.trial.number], [self._overrides(leg)])
        place = Path(job.working_dir or "").resolve()
        folder = str(place.relative_to(self._folder) if self._folder in place.parents else leg.trial.number)
        if job.status == JobStatus.COMPLETED:
            reached = self._measured(folder, leg.epochs)
        else:
            reached = Reached(None, folder, first_line(str(outcome(job))))
        self.trials.reach(leg.trial.number, leg.epochs, reached)
        if reached.values is not None:
            self._say(leg, reached.values)

    def _end(self) -> None:
        """Write the trials that have come to their end, for now, where they are read."""
        for number, rung in enumerate(self._rungs()):
            for trial in (trial for trial in rung.ended if trial not in self.ended):
                self.ended.add(trial)
                paused = rung.epochs < self.ladder.epochs[-1]
                self.trials.end(trial, pruned=paused)
                if paused:
                    self._tag(trial, number)

    def _rank(self, trial: TrialRecord, epochs: int) -> tuple[float, int]:
        """Return what orders trials by the one objective after so many epochs, the best first."""
        (value,) = trial.reached[epochs].values or ()
        return (value if self._directions == ["minimize"] else -value), trial.number

    def _tag(self, trial: TrialRecord, rung: int) -> None:
        """Say in a discarded trial's journal, once, who stopped it."""
        folder = self._folder / (trial.last.folder if trial.last else str(trial.number))
        if not (folder / journal.FILE).is_file():
            return
        run = record.read(folder)
        if run.status == PAUSED and not run.reason.startswith(STOPPED):
            reason = f"{STOPPED} at rung {rung}; {command('resume')} {folder}"
            tags = {"experiments.stopped_by": "search", "experiments.rung": str(rung)}
            journal.end(folder, PAUSED, reason, tags=tags)
            if run.start.store is not None:  # its first end may have been uploaded already
                client.uploader(self.config.tracking, self.config.output_root).follow(folder)

    def _measured(self, name: str, epochs: int) -> Reached:
        """Return what a trial's journal says of the objectives after so many epochs; it may have trained further."""
        folder = references.referred(self._folder / name) or self._folder / name
        figures = record.read(folder).history[:epochs][-1]
        values = [float(figures.get(objective, math.nan)) for objective in self.config.hydra.sweeper.objectives]
        for objective, value in zip(self.config.hydra.sweeper.objectives, values, strict=True):
            if not math.isfinite(value):
                log.warning("trial %s is a failed trial: its %s is %s", name, objective, value)
                return Reached(None, name, f"its {objective} is {value}")
        return Reached(values, name)

    def _say(self, leg: Leg, values: Sequence[float]) -> None:
        """Log a trial's result, the best so far and what is left."""
        rung = self.ladder.epochs.index(leg.epochs)
        where = (
            f", rung {rung} ({leg.epochs} of {self.ladder.epochs[-1]} epochs)" if len(self.ladder.epochs) > 1 else ""
        )
        left = self.config.hydra.sweeper.n_trials - sum(bool(trial.reached) for trial in self.trials.records)
        told = ", ".join(f"{value:.4f}" for value in values)
        best = self.watch.tally.best or "no finite loss yet"
        log.info("trial %d%s: %s; %s%s", leg.trial.number, where, told, best, "" if rung else f"; {left} left")

    def _conclude(self) -> None:
        """Write what the search came to beside its table: what was saved, what matters, what can be resumed."""
        records, rungs = [trial for trial in self.trials.records if trial.reached], self.ladder.epochs
        if not records:
            return
        lines = list[str]()
        if len(rungs) > 1:
            trained = sum(max(trial.reached) for trial in records)
            lines.append(f"{trained} of {len(records) * rungs[-1]} epochs were trained")
            furthest = {trial: max(trial.reached) for trial in records if trial.has_values(max(trial.reached))}
            if paused := [trial for trial, epochs in furthest.items() if epochs < rungs[-1]]:
                best = min(paused, key=lambda trial: (-furthest[trial], self._rank(trial, furthest[trial])))
                folder = relative(self._folder / best.reached[furthest[best]].folder)
                lines.append(f"the best of those that were stopped, trial {best.number}: {command('resume')} {folder}")
        if len(self._directions) > 1:
            front = ", ".join(trial.user_attrs["job"] for trial in self.trials.shown.best_trials)
            lines.append(f"no trial is better in all objectives than one of the Pareto front: trials {front}")
        if importances := self.trials.importances():
            lines.append("importance: " + ", ".join(f"{key} {share:.2f}" for key, share in importances.items()))
        (self._folder / NOTE).write_text("\n".join(lines), encoding="utf-8")

    def _parsed(self, arguments: list[str]) -> list[Override]:
        self._check()
        overrides = super()._parsed(arguments)
        space = Space.of(overrides)
        settings = self.config.hydra.sweeper
        for one in overrides if settings.rungs != "full" else ():
            key = one.get_key_element()
            if key == "pause_after" or (key == "epochs" and one.is_sweep_override()):
                problem = "cannot be set or searched with rungs, which say when a trial pauses"
                raise ConfigError(Fault(key, problem))
        if settings.sampler["name"] == "grid" and (count := len(trials.grid(space))) < settings.n_trials:
            raise ConfigError(Fault("hydra.sweeper.n_trials", f"{settings.n_trials} are given; the grid has {count}"))
        return overrides

    def _check(self) -> None:
        """Raise a ConfigError where a search cannot be made as it is configured."""
        settings: DictConfig = self.config.hydra.sweeper
        faults = [
            Fault(f"hydra.sweeper.{key}", f"{settings[key]} is given; it should be a whole number of 1 or more")
            for key in POSITIVE
            if not isinstance(settings[key], int) or settings[key] < 1
        ]
        for given in self._directions:
            if given not in DIRECTIONS:
                problem = f"{given!r} is given; it should be {' or '.join(DIRECTIONS)}"
                faults.append(Fault("hydra.sweeper.direction", problem))
        if len(self._directions) != len(settings.objectives):
            problem = f"{len(self._directions)} are given for {len(settings.objectives)} objectives"
            faults.append(Fault("hydra.sweeper.direction", problem))
        if not isinstance(settings.seed, int) or settings.seed < 0:
            faults.append(Fault("hydra.sweeper.seed", f"{settings.seed!r} is given; it should be a whole number >= 0"))
        if settings.rungs not in RUNGS:
            problem = f"{settings.rungs!r} is given; it should be {', '.join(RUNGS)}"
            faults.append(Fault("hydra.sweeper.rungs", problem))
        elif settings.rungs != "full" and len(settings.objectives) != 1:
            faults.append(Fault("hydra.sweeper.rungs", "trials of several objectives cannot be ranked; rungs=full"))
        if settings.rungs == "halving" and settings.factor == 1:
            faults.append(Fault("hydra.sweeper.factor", "1 is given; halving keeps one trial in so many, 2 or more"))
        places: Any = OmegaConf.to_container(self.config.hydra.sweep, resolve=False)
        if settings.rungs != "full" and places["subdir"] != "${hydra.job.num}":
            faults.append(Fault("hydra.sweep.subdir", "trials that pause need ${hydra.job.num}"))
        if faults:
            raise ConfigError(*faults)
        trials.sampler(settings.sampler, int(settings.seed))

    def _require_job(self, config: Checked) -> None:
        """Check that a trial has the metrics that the search wants."""
        root = config.root
        known = figure_names(root.metrics)
        for objective in self.config.hydra.sweeper.objectives:
            if objective not in known and not root.callbacks:
                problem = f"{objective!r} is not a metric of a run{suggestion(objective, known)}"
                raise ConfigError(Fault("hydra.sweeper.objectives", problem))

    def _count(self, overrides: Sequence[Override]) -> int:  # noqa: ARG002  # as many trials, whatever the space
        return int(self.config.hydra.sweeper.n_trials)

    def _jobs(self, overrides: list[Override]) -> list[list[str]]:
        return Space.of(overrides).extremes()
