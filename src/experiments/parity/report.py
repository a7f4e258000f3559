"""Compare as the command line asks, and print the verdict."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from experiments import live
from experiments.config.language import Language, Phrase
from experiments.config.secrets import masked
from experiments.parity.differences import TOLERANCE
from experiments.parity.judge import STEPS, compare, resumed
from experiments.parity.script import against
from experiments.parity.stage_pairs import each, pairs
from experiments.runs.tables import table


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
    good = len(verdicts) - len(broken)
    _print("\n" + say("{good} of {count} pairs are as expected", good=good, count=len(verdicts)))
    return not broken


def _print(text: str) -> None:
    print(masked(text))
