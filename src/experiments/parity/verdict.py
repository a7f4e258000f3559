"""The verdict of a comparison, and its text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from experiments.parity.differences import Difference

Word = Literal["identical", "equal", "differs"]


@dataclass(frozen=True)
class Drift:
    """How two trainings diverge when each is on its own.

    Args:
        parted: the first place where a bit differs.
        loss: the largest difference of their training losses.
        step: where that was.
    """

    parted: Difference
    loss: float
    step: int


@dataclass(frozen=True)
class Verdict:
    """Whether two trainings are the same.

    Args:
        verdict: identical (every bit), equal (within the tolerance) or differs.
        steps: training steps that were compared, or epochs for a script.
        tolerance: see `experiments.parity.differences`.
        found: where they differ; where they are equal, the largest difference relative to what is allowed there.
        drift: how the two diverge on their own; None where they do not, or where that was not measured.
        matching: the pairs of tensors, where the names differ.
        notes: what limits the comparison.
        seconds: its duration.
        unit: what the steps are.
    """

    verdict: Word
    steps: int
    tolerance: float
    found: Difference | None = None
    drift: Drift | None = None
    matching: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    unit: str = "step"

    @property
    def step(self) -> int | None:
        """The step of the difference; None where there is none, or where the models themselves differ."""
        return self.found.step if self.found else None

    @property
    def where(self) -> str:
        """The tensor of the difference, in words."""
        return self.found.where if self.found else ""

    @property
    def difference(self) -> float:
        """The size of the difference."""
        return self.found.value if self.found else 0.0

    @property
    def line(self) -> str:
        """The reason for the verdict in a few words, for a table."""
        if self.found is None:
            return ""
        if self.found.kind == "parameters":
            return "parameters"
        value = "" if math.isinf(self.found.value) else f", {self.found.value:.3g}"
        if self.verdict == "equal":
            return f"at most{value.lstrip(',')} ({self._place})"
        return f"{self._place}{value}"

    def __str__(self) -> str:
        count = f"{self.steps} {self.unit}{'' if self.steps == 1 else 's'}"
        if self.verdict == "identical":
            lines = [f"identical: every bit of {count}"]
        elif self.verdict == "equal":
            lines = [f"equal within {self.tolerance:g} over {count}", *self._largest()]
        else:
            lines = [f"differs {self._from}", *self._how_far()]
        lines += self._free()
        return "\n  ".join([*lines, *(f"note: {note}" for note in self.notes)])

    @property
    def _place(self) -> str:
        assert self.found is not None
        after = "after" if self.found.kind == "figure" and self.unit == "step" else "at"
        return f"{self.found.where} {after} {self.unit} {self.found.step}"

    @property
    def _from(self) -> str:
        assert self.found is not None
        if self.found.step is None:
            return "before the first step, in the parameters"
        if self.found.kind == "figure" and self.unit == "step":
            return f"after {self.found.step} steps, in {self.found.where}; the steps themselves do not"
        return f"from {self.unit} {self.found.step} on, in {self.found.where}"

    def _largest(self) -> list[str]:
        if self.found is None:
            return ["step by step from the first's state, every bit is the same"]
        share = f"{100 * self.found.share:.2g} % of what is allowed"
        return [f"largest difference {self.found.value!r}, {self._place} ({share}): {self.found.detail}"]

    def _how_far(self) -> list[str]:
        assert self.found is not None
        if math.isinf(self.found.value):
            return [self.found.detail]
        allowed = "none is allowed" if math.isinf(self.found.share) else f"{self.found.share:.3g} times what is allowed"
        return [f"by {self.found.value!r} ({allowed}): {self.found.detail}"]

    def _free(self) -> list[str]:
        if self.drift is None or self.verdict != "equal":
            return []
        parted = self.drift.parted
        apart = f"training losses at most {self.drift.loss!r} apart, at step {self.drift.step}"
        return [f"each on its own, bits part at step {parted.step} ({parted.where}); {apart}"]
