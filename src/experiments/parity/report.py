"""Compare as the command line asks, and print the verdict."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from experiments import answer, live
from experiments.config.language import Language, Phrase
from experiments.config.secrets import masked
from experiments.parity.differences import TOLERANCE
from experiments.parity.judge import STEPS, compare, resumed
from experiments.parity.script import against
from experiments.parity.stage_pairs import StageVerdict, each, pairs
from experiments.parity.verdict import Verdict
from experiments.runs.tables import table


@dataclass(frozen=True)
class PairAnswer:
    """Two trainings, for `--json`.

    Args:
        a: the stage before; empty for what the command line names.
        b: the stage.
        verdict: identical, equal or differs.
        expected: of a stage, the verdict that its file expects; else empty.
        holds: whether the verdict is as it should be.
        steps: that were compared, or epochs.
        step: of the difference, or of the largest one; None where there is none, or before the first step.
        where: the tensor of it, in words; empty where there is none.
        difference: its size.
        tolerance: of `equal`.
        notes: what limits the comparison.
        seconds: that it took.
    """

    a: str
    b: str
    verdict: str
    expected: str
    holds: bool
    steps: int
    step: int | None
    where: str
    difference: float
    tolerance: float
    notes: Sequence[str]
    seconds: float


@dataclass(frozen=True)
class ParityAnswer:
    """What was compared.

    Args:
        pairs: of trainings; one, or with --stages each stage and the one before.
    """

    pairs: Sequence[PairAnswer]


def report(given: argparse.Namespace, texts: Sequence[Sequence[str]]) -> bool:
    """Print the verdict; return whether all is as it should be.

    Args:
        given: the checked options.
        texts: the overrides of each positional argument.
    """
    steps = STEPS if given.steps is None else given.steps
    tolerance = TOLERANCE if given.tolerance is None else given.tolerance
    overrides = [word for text in texts for word in text]
    # A language that does not exist is refused with the other overrides.
    say = Language(([word.partition("=")[2] for word in overrides if word.startswith("language=")] or ["en"])[-1])
    if given.stages:
        return _stages(overrides, steps, tolerance, say)
    if given.resume_at is not None:
        verdict = resumed(overrides, given.resume_at, steps=steps)
        _print(say("straight against saved after step {number} and resumed", number=given.resume_at))
    elif given.against is not None:
        verdict = against(overrides, given.against, data=given.data, tolerance=tolerance)
        _print(say("the run against {script}", script=given.against))
    else:
        common = [word for text in texts[2:] for word in text]
        a, b = ([*common, *text] for text in texts[:2])
        verdict = compare(a, b, steps=steps, tolerance=tolerance, transpose=given.transpose)
        for name, text in zip("AB", given.overrides, strict=False):
            _print(f"{name}  {text or say('(defaults)')}")
        if verdict.matching:
            _print("\n  ".join(map(say, [Phrase("tensors, A = B"), *verdict.matching])))
    _print(verdict.text(say))
    answer.give(ParityAnswer([_pair(verdict)]))
    return verdict.verdict != "differs"


def _stages(overrides: Sequence[str], steps: int, tolerance: float, say: Language) -> bool:
    """Print the table of all pairs; return whether every expectation holds."""
    found = each(overrides, steps=steps, tolerance=tolerance)
    verdicts = list(live.track(found, "comparing stages", len(pairs())))
    rows = [
        {
            say("stages"): f"{pair.before} -> {pair.stage}",
            say("verdict"): say(pair.verdict.verdict),
            say("expected"): say(pair.expected) + (f" ({pair.where})" if pair.where else ""),
            say("where"): pair.verdict.line(say),
            say("seconds"): f"{pair.verdict.seconds:.1f}",
        }
        for pair in verdicts
    ]
    _print(table(rows))
    broken = [pair for pair in verdicts if not pair.holds]
    for pair in broken:
        expected = f"{say('expected')} {say(pair.expected)} ({pair.why[say.name]})"
        _print(f"\n{pair.stage}, {expected}\n{pair.verdict.text(say)}")
    answer.give(ParityAnswer([_pair(pair.verdict, pair) for pair in verdicts]))
    good = len(verdicts) - len(broken)
    _print("\n" + say("{good} of {count} pairs are as expected", good=good, count=len(verdicts)))
    return not broken


def _pair(verdict: Verdict, stage: StageVerdict | None = None) -> PairAnswer:
    return PairAnswer(
        a=stage.before if stage else "",
        b=stage.stage if stage else "",
        verdict=verdict.verdict,
        expected=stage.expected if stage else "",
        holds=stage.holds if stage else verdict.verdict != "differs",
        steps=verdict.steps,
        step=verdict.step,
        where=verdict.where,
        difference=verdict.difference,
        tolerance=verdict.tolerance,
        notes=[str(note) for note in verdict.notes],
        seconds=verdict.seconds,
    )


def _print(text: str) -> None:
    print(masked(text))
