"""The verdict of a comparison, and its text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from experiments.config.language import ENGLISH, Language
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

    def line(self, say: Language = ENGLISH) -> str:
        """Return the reason for the verdict in a few words, for a table."""
        if self.found is None:
            return ""
        if self.found.kind == "parameters":
            return say("parameters")
        value = "" if math.isinf(self.found.value) else f"{self.found.value:.3g}"
        if self.verdict == "equal":
            return say("at most {value} ({place})", value=value, place=self._place(say))
        return self._place(say) + (value and f", {value}")

    def text(self, say: Language = ENGLISH) -> str:
        """Return the verdict with its numbers."""
        count = say(f"{{count}} {self.unit}{'' if self.steps == 1 else 's'}", count=self.steps)
        if self.verdict == "identical":
            lines = [say("identical: every bit of {count}", count=count)]
        elif self.verdict == "equal":
            lines = [say("equal within {tolerance:g} over {count}", tolerance=self.tolerance, count=count)]
            lines += [self._largest(say), *self._free(say)]
        else:
            lines = [self._from(say), self._how_far(say)]
            lines += self._free(say) if self.found and self.found.kind == "stream" else []
        return "\n  ".join([*lines, *(say("note: {note}", note=say(note)) for note in self.notes)])

    __str__ = text

    @property
    def _is_mean(self) -> bool:
        """Return whether the steps are the same, and a mean over them differs."""
        return self.found is not None and self.found.kind == "figure" and self.unit == "step"

    def _where(self, say: Language) -> dict[str, object]:
        """Return the values of a text on the place of the difference."""
        assert self.found is not None
        step = say(f"{self.unit} {{number}}", number=self.step)
        return {"where": self.found.named(say), "step": step, "number": self.step}

    def _place(self, say: Language) -> str:
        return say("{where} after {step}" if self._is_mean else "{where} at {step}", **self._where(say))

    def _from(self, say: Language) -> str:
        if self.step is None:
            return say("differs before the first step, in the parameters")
        if self._is_mean:
            return say("differs after {number} steps, in {where}; the steps themselves do not", **self._where(say))
        return say("differs from {step} on, in {where}", **self._where(say))

    def _largest(self, say: Language) -> str:
        if self.found is None:
            return say("step by step from the first's state, every bit is the same")
        found = {"value": self.found.value, "place": self._place(say), "share": 100 * self.found.share}
        text = say("largest difference {value!r}, {place} ({share:.2g} % of what is allowed)", **found)
        return f"{text}: {say(self.found.detail)}"

    def _how_far(self, say: Language) -> str:
        assert self.found is not None
        if math.isinf(self.found.value):
            return say(self.found.detail)
        share = self.found.share
        allowed = say("none is allowed") if math.isinf(share) else say("{share:.3g} times what is allowed", share=share)
        return f"{say('by {value!r}', value=self.found.value)} ({allowed}): {say(self.found.detail)}"

    def _free(self, say: Language) -> list[str]:
        if self.drift is None:
            return []
        parted = {"step": self.drift.parted.step, "where": self.drift.parted.named(say)}
        apart = say(
            "training losses at most {loss!r} apart, at step {step}", loss=self.drift.loss, step=self.drift.step
        )
        return [f"{say('each on its own, bits part at step {step} ({where})', **parted)}; {apart}"]
