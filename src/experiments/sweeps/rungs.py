"""The rungs of a search: after how many epochs its trials are compared, and which of them go on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.sweeps.trials import TrialRecord

RUNGS = ("full", "halving", "one_epoch")

Rank = Callable[[TrialRecord, int], tuple[float, int]]  # orders trials after so many epochs, the best first


@dataclass(frozen=True)
class Leg:
    """A trial's training up to a rung; a job."""

    trial: TrialRecord
    epochs: int

    def done(self, tried: Collection[Leg]) -> bool:
        """Return whether it has a value, or was tried and failed."""
        return self.trial.has_values(self.epochs) or self in tried


@dataclass(frozen=True)
class Rung:
    """How a rung stands: the trials that are to be trained up to it, and those that go no further."""

    epochs: int
    left: Sequence[TrialRecord]
    ended: Sequence[TrialRecord]


@dataclass(frozen=True)
class Ladder:
    """The rungs of a search.

    Args:
        epochs: of each rung; the last is the whole training.
        trials: how many come to each rung where none fails.
    """

    epochs: Sequence[int]
    trials: Sequence[int]

    @classmethod
    def of(cls, settings: Any, epochs: int) -> Ladder:
        """Return the rungs that a search's settings ask for, of trainings of so many epochs."""
        if settings.rungs == "full":
            return cls([epochs], [int(settings.n_trials)])
        rungs, factor = [1], int(settings.factor)
        while settings.rungs == "halving" and rungs[-1] * factor < epochs:
            rungs.append(rungs[-1] * factor)
        rungs, trials = sorted({*rungs, epochs}), [int(settings.n_trials)]
        for _ in rungs[1:]:
            trials.append(int(settings.keep) if settings.rungs == "one_epoch" else max(1, trials[-1] // factor))
        return cls(rungs, trials)

    def rungs(self, trials: Sequence[TrialRecord], tried: Collection[Leg], rank: Rank) -> Iterator[Rung]:
        """Return how each rung stands, with the trials that were chosen so far.

        A trial goes on as soon as none of those that are still missing can take its place. So what is decided does not
        depend on their order, and a free process does not wait for the last one of a rung.
        """
        coming = self.trials[0]
        for epochs, kept in zip(self.epochs, [*self.trials[1:], 0], strict=True):
            left = [trial for trial in trials if not Leg(trial, epochs).done(tried)]
            missing = coming - len(trials) + len(left)
            ranked = [trial for trial in trials if trial.has_values(epochs)]
            failed = [trial for trial in trials if not trial.has_values(epochs) and Leg(trial, epochs) in tried]
            if epochs != self.epochs[-1]:
                ranked.sort(key=lambda trial, epochs=epochs: rank(trial, epochs))  # type: ignore[misc]
            yield Rung(epochs, left, [*ranked[kept:], *failed])
            trials = ranked[: max(0, kept - missing)]
            coming = kept if missing else len(trials)
