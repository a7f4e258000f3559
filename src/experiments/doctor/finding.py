"""Findings, and the rules of one layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

MIN_STEPS = 200  # a shorter training may still be on its first plateau: the tutorial's CNN leaves it after some 130
Found = tuple[str, str] | None  # evidence and remedy; None for nothing
Observed = TypeVar("Observed")


@dataclass(frozen=True)
class Finding:
    """What probably is wrong.

    Args:
        rule: its name, a section of docs/doctor.md.
        evidence: a sentence, in numbers.
        remedy: the likeliest one, as an override or a change of the code.
        docs: the address of the rule's section.
    """

    rule: str
    evidence: str
    remedy: str
    docs: str


class Rules(Generic[Observed]):
    """Functions of what was observed by name, the most likely root cause first."""

    def __init__(self) -> None:
        self.by_name: dict[str, Callable[[Observed], Found]] = {}

    def __call__(self, name: str) -> Callable[[Callable[[Observed], Found]], Callable[[Observed], Found]]:
        """Return a decorator that adds a rule."""
        return lambda check: self.by_name.setdefault(name, check)

    def findings(self, observed: Observed) -> list[Finding]:
        """Return what the rules find."""
        found = {name: check(observed) for name, check in self.by_name.items()}
        return [Finding(name, *each, f"docs/doctor.md#{name}") for name, each in found.items() if each]
