"""`python -m experiments.replay RUN [--here]`: train a run again, and see whether it comes to the same.

RUN is a run's folder, its MLflow id or latest. Its commit and its code.patch are laid out in a temporary worktree, and
the same training runs from there; with --here it runs with today's code. What differs is named first: code, data,
settings, seeds, versions, machine. Then one verdict: identical (every bit of each metric and of the weights), equal
(within a tolerance) or differs (from which epoch on, and where); exit code 1 where it differs.
"""

from __future__ import annotations

import argparse

from experiments import answer, cli
from experiments.runs.find import find
from experiments.runs.replay import replay

NAME = "replay"


def main(arguments: list[str] | None = None) -> None:
    """Print the verdict; exit codes: 0 identical or equal, 1 it differs or failed, 2 refused."""
    parser = cli.parser(NAME, __doc__, answers=True)
    parser.add_argument("run", metavar="RUN", help="a run's folder or MLflow id, or latest")
    parser.add_argument("--here", action="store_true", help="train it with today's code")
    given = parser.parse_args(arguments)
    cli.guarded(lambda: _replay(given), json=given.json)


def _replay(given: argparse.Namespace) -> int:
    found = replay(find(given.run), here=given.here)
    answer.give(found)
    print(found.verdict)
    return int(found.verdict.word == "differs")


if __name__ == "__main__":
    main()
