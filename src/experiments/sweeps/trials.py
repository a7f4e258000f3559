"""The trials of a search: chosen by Optuna, and kept in the sweep's folder, from which a search resumes exactly.

`trials.jsonl` is the truth: a line for what each trial was given, before it starts, and one for what it came to. On
resume its lines are replayed, so that the sampler's random numbers and what it has learned are where they were. The
study of the ended trials is also written to `study.journal`, which `optuna-dashboard` opens.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from experiments.config import secrets
from experiments.errors import ConfigError, Fault, first_line, suggestion
from experiments.sweeps.space import Space, short

CHOSEN, STUDY = "trials.jsonl", "study.journal"
SAMPLERS: dict[str, type[BaseSampler]] = {
    "tpe": TPESampler,
    "gp": GPSampler,
    "random": RandomSampler,
    "qmc": QMCSampler,
    "grid": RandomSampler,  # the trials are queued
    "cmaes": CmaEsSampler,
}


@dataclass(frozen=True)
class Reached:
    """What a trial came to after some epochs: a value for each objective; none where it failed, for a reason."""

    values: Sequence[float] | None
    folder: str
    reason: str = ""


@dataclass(eq=False)
class TrialRecord:
    """A trial: what it was given by key, and what it came to by the number of epochs."""

    number: int
    given: Mapping[str, Any]
    reached: dict[int, Reached] = field(default_factory=dict)

    def has_values(self, epochs: int) -> bool:
        """Return whether it came so far and did not fail."""
        return epochs in self.reached and self.reached[epochs].values is not None

    @property
    def last(self) -> Reached | None:
        """Return what it came to last."""
        return self.reached[max(self.reached)] if self.reached else None


class Rounded:
    """Part of a sampler: the numbers of an interval are short ones."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the values of dependent keys."""
        found: dict[str, Any] = super().sample_relative(study, trial, search_space)  # type: ignore[misc]
        return {key: short(value, search_space[key]) for key, value in found.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of one key."""
        value = super().sample_independent(study, trial, param_name, param_distribution)  # type: ignore[misc]
        return short(value, param_distribution)


def sampler(settings: Mapping[str, Any], seed: int) -> BaseSampler:
    """Return the configured sampler.

    Raises:
        ConfigError: there is none of this name, or it has no such argument, or its package is missing.
    """
    given = {str(key): value for key, value in settings.items()}
    name = given.pop("name", None)
    if name not in SAMPLERS:
        raise ConfigError(
            Fault("hydra.sweeper.sampler.name", f"no sampler is called {name!r}{suggestion(name, SAMPLERS)}")
        )
    kind: Any = type("Sampler", (Rounded, SAMPLERS[name]), {})
    try:
        with warnings.catch_warnings():  # of what Optuna calls experimental
            warnings.simplefilter("ignore")
            made: BaseSampler = kind(**given, seed=seed)
    except (TypeError, ValueError, ImportError) as error:
        raise ConfigError(
            Fault("hydra.sweeper.sampler", first_line(error).replace(f"{SAMPLERS[name].__name__}.__init__()", name))
        ) from None
    return made


class Trials:
    """The trials of one search.

    Args:
        folder: the sweep's.
        space: what is searched.
        settings: the sampler's.
        directions: "minimize" or "maximize" for each objective.
        seed: of the sampler.
        together: how many trials may run at once: the sampler does not know of the `together - 1` before a trial.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        settings: Mapping[str, Any],
        directions: Sequence[Any],
        seed: int,
        together: int,
    ) -> None:
        self.path, self.space, self.directions, self.together = folder / CHOSEN, space, directions, together
        self.study = optuna.create_study(sampler=sampler(settings, seed), directions=directions)
        if settings["name"] == "grid":
            for values in grid(space):
                self.study.enqueue_trial(values)
        self.records: list[TrialRecord] = []
        self._asked: list[Trial] = []
        self._told = 0
        (folder / STUDY).unlink(missing_ok=True)
        storage = JournalStorage(JournalFileBackend(str(folder / STUDY)))
        self.shown = optuna.create_study(storage=storage, study_name=folder.name, directions=directions)
        for line in self._lines():
            self._replay(line)

    @property
    def known(self) -> list[TrialRecord]:
        """Return the trials whose results the next one is chosen by."""
        return self.records[: max(0, len(self.records) - self.together + 1)]

    def choose(self) -> TrialRecord:
        """Choose the next trial."""
        given, number = self._ask(), len(self.records)
        self._write({"trial": number, "set": secrets.masked_deep(given)})
        self.records.append(TrialRecord(number, given))
        return self.records[-1]

    def reach(self, number: int, epochs: int, reached: Reached) -> None:
        """Keep what a trial came to."""
        text = {"values": reached.values} if reached.values is not None else {"failed": secrets.masked(reached.reason)}
        self._write({"trial": number, "epochs": epochs, "folder": reached.folder, **text})
        self.records[number].reached[epochs] = reached

    def end(self, record: TrialRecord, *, pruned: bool = False) -> None:
        """Write an ended trial to the study's file."""
        last = record.last
        assert last is not None
        state = TrialState.FAIL if last.values is None else TrialState.PRUNED if pruned else TrialState.COMPLETE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = optuna.trial.create_trial(
                state=state,
                params=dict(record.given),
                distributions=dict(self.space.searched),
                values=None if last.values is None else list(last.values),
                intermediate_values={e: one.values[0] for e, one in record.reached.items() if one.values is not None},
                user_attrs={"job": str(record.number), "folder": last.folder}
                | ({"why": last.reason} if last.reason else {}),
            )
        self.shown.add_trial(trial)

    def importances(self) -> dict[str, float]:
        """Return how much each key decides of the (first) objective, by Optuna; empty where that cannot be said."""
        with contextlib.suppress(ValueError, RuntimeError, ImportError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._learn(self.records)
            target = None if len(self.directions) == 1 else (lambda trial: trial.values[0])
            return dict(optuna.importance.get_param_importances(self.study, target=target))
        return {}

    def _ask(self) -> dict[str, Any]:
        self._learn(self.known)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self.study.ask(dict(self.space.searched))
        self._asked.append(trial)
        return dict(trial.params)

    def _learn(self, known: Sequence[TrialRecord]) -> None:
        """Tell the sampler, in their order, of trials that it does not know: of the first rung, which all have."""
        for record in known[self._told :]:
            if not record.reached:
                return
            values = record.reached[min(record.reached)].values
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
            self.study.tell(self._asked[record.number], None if values is None else list(values), state=state)
            self._told += 1

    def _replay(self, line: Mapping[str, Any]) -> None:
        if "set" in line:
            asked = self._ask()  # what is secret was not kept, and is chosen again
            given = asked if secrets.HIDDEN in str(line["set"]) else line["set"]
            self.records.append(TrialRecord(line["trial"], given))
        else:
            reached = Reached(line.get("values"), line["folder"], line.get("failed", ""))
            self.records[line["trial"]].reached[line["epochs"]] = reached

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Return the lines of the file; a last one that a dying process left half written is cut off."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            self.path.write_text(whole, encoding="utf-8")
        return map(json.loads, whole.splitlines())

    def _write(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(line)}\n")


def grid(space: Space) -> list[dict[str, Any]]:
    """Return all combinations of the values.

    Raises:
        ConfigError: those of a key cannot be listed.
    """
    listed = {}
    for key, distribution in space.searched.items():
        values: Any = getattr(distribution, "choices", None)
        if values is None and (step := getattr(distribution, "step", None)) and not getattr(distribution, "log", False):
            count = round((distribution.high - distribution.low) / step)  # type: ignore[attr-defined]  # it is a range
            values = [distribution.low + step * place for place in range(count + 1)]  # type: ignore[attr-defined]
        if values is None:
            raise ConfigError(Fault(key, "an interval has no grid; give choice(...) or range(...)"))
        listed[key] = values
    return [dict(zip(listed, values, strict=True)) for values in itertools.product(*listed.values())]
