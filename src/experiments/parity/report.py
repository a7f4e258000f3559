"""Compare as the command line asks, and print the verdict."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from experiments import live
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
    if given.stages:
        return _stages(overrides, steps, tolerance)
    if given.resume_at is not None:
        verdict = resumed(overrides, given.resume_at, steps=steps)
        _print(f"straight against saved after step {given.resume_at} and resumed")
    elif given.against is not None:
        verdict = against(overrides, given.against, data=given.data, tolerance=tolerance)
        _print(f"the run against {given.against}")
    else:
        common = [word for text in texts[2:] for word in text]
        a, b = ([*common, *text] for text in texts[:2])
        verdict = compare(a, b, steps=steps, tolerance=tolerance, transpose=given.transpose)
        for name, text in zip("AB", given.overrides, strict=False):
            _print(f"{name}  {text or '(defaults)'}")
        if verdict.matching:
            _print("tensors, A = B\n  " + "\n  ".join(verdict.matching))
    _print(str(verdict))
    return verdict.verdict != "differs"


def _stages(overrides: Sequence[str], steps: int, tolerance: float) -> bool:
    """Print the table of all pairs; return whether every expectation holds."""
    found = each(overrides, steps=steps, tolerance=tolerance)
    verdicts = list(live.track(found, "comparing stages", len(pairs())))
    rows = [
        {
            "stages": f"{pair.before} -> {pair.stage}",
            "verdict": pair.verdict.verdict,
            "expected": pair.expected + (f" in {pair.where}" if pair.where else ""),
            "where": pair.verdict.line,
            "seconds": f"{pair.verdict.seconds:.1f}",
        }
        for pair in verdicts
    ]
    _print(table(rows))
    broken = [pair for pair in verdicts if not pair.holds]
    for pair in broken:
        _print(f"\n{pair.stage}, expected {pair.expected} ({pair.why['en']})\n{pair.verdict}")
    _print(f"\n{len(verdicts) - len(broken)} of {len(verdicts)} pairs are as expected")
    return not broken


def _print(text: str) -> None:
    print(masked(text))
