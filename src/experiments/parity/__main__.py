"""Are two configurations the same training? Both start from the first's weights and are compared step by step.

  python -m experiments.parity "stage=03_module" "stage=04_linear" dataset=mnist_5k
  python -m experiments.parity --stages [OVERRIDE ...]
  python -m experiments.parity --resume-at K [OVERRIDE ...]
  python -m experiments.parity --against SCRIPT [--data PATH] [OVERRIDE ...]

The first two arguments are the overrides of A and of B, each as one text ("" for none); what follows holds for both.
The verdict is one of
  identical  every bit of every batch, loss, gradient and weight is the same, each training on its own
  equal      within the tolerance, B put on A's state before each step, so that rounding cannot grow
  differs    from step k on, in tensor t, by how much
Of a batch and a loss, the tolerance is that part of its largest value, or of 1; of a gradient, that part of its
tensor's largest, and the rounding of the largest so far; of a weight, that part of the largest update, and the rounding
of the weight itself. Callbacks are not called, no run is begun, nothing is left behind. init_from is left out but for
--resume-at and --against. Exit code: 0 identical or equal, 1 differs, 2 a mistake. device.threads=1 is much faster
where other work uses the cores.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import cli
from experiments.errors import ConfigError, Fault
from experiments.runs.tables import table


def main(arguments: list[str] | None = None) -> None:
    """Compare, print the verdict, and end with its exit code."""
    given = _parser().parse_intermixed_args(arguments)
    cli.guarded(lambda: _compare(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.parity",
        usage="%(prog)s [options] A B [OVERRIDE ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as on the command line of a run")
    parser.add_argument("--steps", type=int, help="training steps to compare, at most (200)")
    parser.add_argument("--tolerance", type=float, help="what may differ for `equal` (1e-5)")
    parser.add_argument(
        "--transpose", action="append", default=[], metavar="NAME",
        help="B has this square matrix transposed; others are recognised by their shape",
    )  # fmt: skip
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--stages", action="store_true", help="each stage against the one before, as its file expects")
    other.add_argument("--resume-at", type=int, metavar="K", help="straight against saved after K steps and gone on")
    other.add_argument("--against", type=Path, metavar="SCRIPT", help="the losses of a run against those it prints")
    parser.add_argument("--data", type=Path, metavar="PATH", help="what SCRIPT gets (the dataset's own file)")
    return parser


def _compare(given: argparse.Namespace) -> None:
    from experiments.parity.differences import TOLERANCE
    from experiments.parity.judge import STEPS, compare, resumed

    steps = STEPS if given.steps is None else given.steps
    tolerance = TOLERANCE if given.tolerance is None else given.tolerance
    _check(given)
    if given.stages:
        sys.exit(_stages(given, steps, tolerance))
    if given.resume_at is not None:
        verdict = resumed(_words(given.overrides), given.resume_at, steps=steps)
        _print(f"straight against saved after step {given.resume_at} and gone on")
    elif given.against is not None:
        from experiments.parity.script import against

        verdict = against(_words(given.overrides), given.against, data=given.data, tolerance=tolerance)
        _print(f"the run against {given.against}")
    else:
        a, b, common = _two(given.overrides)
        verdict = compare(
            [*common, *_words([a])], [*common, *_words([b])],
            steps=steps, tolerance=tolerance, transpose=given.transpose,
        )  # fmt: skip
        _print(f"A  {a or '(defaults)'}\nB  {b or '(defaults)'}")
        if verdict.matching:
            _print("tensors, A = B\n  " + "\n  ".join(verdict.matching))
    _print(str(verdict))
    sys.exit(int(verdict.verdict == "differs"))


def _check(given: argparse.Namespace) -> None:
    """See that no option is given that would be left out of account."""
    two = not given.stages and given.resume_at is None and given.against is None
    if given.data is not None and given.against is None:
        raise ConfigError(Fault("--data", "it goes with --against"))
    if given.transpose and not two:
        raise ConfigError(Fault("--transpose", "it goes with two configurations"))
    if given.tolerance is not None and given.resume_at is not None:
        raise ConfigError(Fault("--tolerance", "it does not go with --resume-at, where every bit has to be the same"))
    if given.steps is not None and given.against is not None:
        raise ConfigError(Fault("--steps", "a script is compared by its epochs: epochs=1"))
    if given.stages and any(word.startswith("stage=") for word in _words(given.overrides)):
        raise ConfigError(Fault("stage", "it is chosen by --stages"))


def _stages(given: argparse.Namespace, steps: int, tolerance: float) -> int:
    """The table of all pairs; 1 where an expectation is broken."""
    from tqdm import tqdm

    from experiments.parity.stage_pairs import each, pairs

    overrides = _words(given.overrides)
    found = each(overrides, steps=steps, tolerance=tolerance)
    verdicts = list(tqdm(found, total=len(pairs()), unit="pair", leave=False, disable=None))
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
    return int(bool(broken))


def _two(overrides: Sequence[str]) -> tuple[str, str, list[str]]:
    """A, B and what holds for both."""
    if len(overrides) < 2:
        problem = (
            f'two configurations are compared, {len(overrides)} given; for example "model=cnn" "model=cnn_adaptive"'
        )
        raise ConfigError(Fault("A B", problem))
    return overrides[0], overrides[1], _words(overrides[2:])


def _words(texts: Sequence[str]) -> list[str]:
    try:
        return [word for text in texts for word in shlex.split(text)]
    except ValueError as error:
        raise ConfigError(Fault(" ".join(texts), f"its quotes are not closed ({error})")) from None


def _print(text: str) -> None:
    from experiments.config.secrets import masked

    print(masked(text))


if __name__ == "__main__":
    main()
