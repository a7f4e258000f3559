"""Compare each of the tutorial's stages with the one before, as its file expects."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from experiments.config import stages as tutorial
from experiments.errors import ConfigError, Fault
from experiments.parity.differences import TOLERANCE
from experiments.parity.judge import STEPS, check, judge, prepared
from experiments.parity.verdict import Verdict, Word
from experiments.training import build

# The verdicts that satisfy an expectation.
ENOUGH: Mapping[str, tuple[Word, ...]] = {
    "identical": ("identical",),
    "equal": ("identical", "equal"),
    "differs": ("differs",),
}


@dataclass(frozen=True)
class StageVerdict:
    """A stage compared with the one before.

    Args:
        before: the name of the stage before.
        stage: its name.
        verdict: the result.
        expected: identical, equal or differs, as in its file.
        where: what should differ: batch, parameters, or a metric as `valid/loss`; empty where nothing should.
        why: the reason, by language.
    """

    before: str
    stage: str
    verdict: Verdict
    expected: str
    where: str
    why: Mapping[str, str]

    @property
    def holds(self) -> bool:
        """Whether the verdict is as expected."""
        if self.verdict.verdict not in ENOUGH[self.expected]:
            return False
        found = self.verdict.found
        return self.expected != "differs" or (found is not None and self.where in (found.kind, found.name))

    def told(self) -> dict[str, Any]:
        """Return plain values, for a file."""
        value = self.verdict.difference
        return {
            "pair": [self.before, self.stage],
            "verdict": self.verdict.verdict,
            "where": self.verdict.where,
            "difference": value if self.verdict.found and math.isfinite(value) else None,
            "expected": self.expected,
            "holds": self.holds,
        }


def stages(overrides: Sequence[str] = (), *, steps: int = STEPS, tolerance: float = TOLERANCE) -> list[StageVerdict]:
    """Compare all neighbouring stages under the same overrides; arguments and errors as those of `compare`."""
    return list(each(overrides, steps=steps, tolerance=tolerance))


def each(
    overrides: Sequence[str], *, steps: int, tolerance: float = TOLERANCE, among: Collection[str] | None = None
) -> Iterator[StageVerdict]:
    """Yield the same one by one; with `among`, only for these stages."""
    check(steps, tolerance)
    build.forget_dataset()
    before, one = "", None
    for name in tutorial.names():
        (other,) = prepared([f"stage={name}", *overrides], fresh=True)
        if one is not None and (among is None or name in among):
            expected = _expectation(name, other.root.tutorial)
            verdict = judge(one, other, steps, tolerance)
            yield StageVerdict(before, name, verdict, expected["verdict"], expected.get("in", ""), expected["why"])
        before, one = name, other


def pairs() -> list[tuple[str, str]]:
    """Return the names of neighbouring stages."""
    return list(pairwise(tutorial.names()))


def _expectation(name: str, tutorial: Mapping[str, Any] | None) -> Mapping[str, Any]:
    expected: Mapping[str, Any] | None = (tutorial or {}).get("expects")
    if expected is None or expected.get("verdict") not in ENOUGH:
        problem = f"stage {name} should say what it expects against the stage before: one of {', '.join(ENOUGH)}"
        raise ConfigError(Fault("tutorial.expects.verdict", problem))
    return expected
