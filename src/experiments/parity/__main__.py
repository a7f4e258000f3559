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
of the weight itself. Of the random streams seeds.init, seeds.data_order and seeds.noise, one that has another number in
B and changes what A trains is a difference, although B starts from A's weights and can borrow its noise. Callbacks are
not called, no run starts, no file is written. init_from is left out but for --resume-at and --against. Exit code: 0
identical or equal, 1 differs, 2 a mistake. device.threads=1 is much faster where other work uses the cores. language=uz
gives the verdict in Uzbek.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from experiments import cli, live
from experiments.errors import ConfigError, Fault


def main(arguments: list[str] | None = None) -> None:
    """Compare, print the verdict, and end with its exit code."""
    given = _parser().parse_intermixed_args(arguments)
    cli.guarded(lambda: _compare(given), json=given.json)


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("parity", __doc__, answers=True)
    parser.usage = "%(prog)s [options] A B [OVERRIDE ...]"
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as on the command line of a run")
    parser.add_argument("--steps", type=int, help="training steps to compare, at most (200)")
    parser.add_argument("--tolerance", type=float, help="what may differ for `equal` (1e-5)")
    parser.add_argument(
        "--transpose", action="append", default=[], metavar="NAME",
        help="B has this square matrix transposed; others are recognised by their shape",
    )  # fmt: skip
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--stages", action="store_true", help="each stage against the one before, as its file expects")
    other.add_argument("--resume-at", type=int, metavar="K", help="straight against saved after K steps and resumed")
    other.add_argument("--against", type=Path, metavar="SCRIPT", help="the losses of a run against those it prints")
    parser.add_argument("--data", type=Path, metavar="PATH", help="what SCRIPT gets (the dataset's own file)")
    return parser


@live.phase("comparing")
def _compare(given: argparse.Namespace) -> int:
    texts = [_words(text) for text in given.overrides]
    _check(given, texts)
    from experiments.parity.report import report  # needs torch

    return int(not report(given, texts))


def _check(given: argparse.Namespace, texts: Sequence[Sequence[str]]) -> None:
    """Check that every option goes with what is compared."""
    two = not given.stages and given.resume_at is None and given.against is None
    if given.data is not None and given.against is None:
        raise ConfigError(Fault("--data", "it goes with --against"))
    if given.transpose and not two:
        raise ConfigError(Fault("--transpose", "it goes with two configurations"))
    if given.tolerance is not None and given.resume_at is not None:
        raise ConfigError(Fault("--tolerance", "it does not go with --resume-at, where every bit has to be the same"))
    if given.steps is not None and given.against is not None:
        raise ConfigError(Fault("--steps", "a script is compared by its epochs: epochs=1"))
    if given.stages and any(word.startswith("stage=") for text in texts for word in text):
        raise ConfigError(Fault("stage", "it is chosen by --stages"))
    if two and len(texts) < 2:
        problem = f'two configurations are compared, {len(texts)} given; for example "model=cnn" "model=cnn_adaptive"'
        raise ConfigError(Fault("A B", problem))


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(Fault(text, f"its quotes are not closed ({error})")) from None


if __name__ == "__main__":
    main()
