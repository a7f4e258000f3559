"""How many of a sweep's jobs are done, and the best of them: the sweep's live line."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import Any

from experiments import live
from experiments.runs import references, sweep_plan
from experiments.tracking import journal, record

AHEAD = 64  # jobs whose folders are read: they start in their order


class Tally:
    """Counts the jobs of a sweep; `word` is what one of them is, a job or a trial."""

    def __init__(self, sweep: Path, jobs: int, word: str) -> None:
        self.sweep, self.jobs, self.word = sweep, jobs, word
        self.losses: dict[int, float] = {}  # of those that are done
        self.bar = live.Phase("", jobs, 0)

    def done(self, number: int, loss: Any = None) -> None:
        """Count a job, once; a failed one has no loss."""
        self.losses[number] = loss if isinstance(loss, float) else math.nan
        self.show()

    def show(self) -> None:
        """Update the live line."""
        done = len(self.losses)
        self.bar.title, self.bar.note = f"{self.word} {min(done + 1, self.jobs)} of {self.jobs}", self.best
        self.bar.at(done)

    def count(self) -> None:
        """Count the jobs that other processes, or this sweep's earlier start, have finished; only for a live line."""
        if self.bar.drawn:
            listed = enumerate(sweep_plan.read(self.sweep).listed)
            for number, name in islice(((n, name) for n, name in listed if n not in self.losses), AHEAD):
                folder = references.referred(self.sweep / name) or self.sweep / name
                if (folder / journal.FILE).is_file() and (run := record.read(folder)).finished:
                    self.done(number, run.figures.get("best/valid_loss"))
            self.show()

    @property
    def best(self) -> str:
        """Return the best job so far in words."""
        finite = [(loss, number) for number, loss in dict(self.losses).items() if math.isfinite(loss)]
        if not finite:
            return ""
        loss, number = min(finite)
        return f"best {loss:.4f} of {self.word} {number}"
