"""What probably is wrong with a training, its data or its model? Advice alone: it starts no run and changes nothing.

  python -m experiments.doctor RUN
  python -m experiments.doctor [OVERRIDE ...]

RUN is a run's folder, its MLflow id or latest: its metrics are read, and its data and model are examined again, from
fresh weights. With overrides, as on the command line of a run, the data and a few steps of a copy of the model are
examined before a training. The likeliest cause comes first. Exit code: 0 nothing found, 1 findings, 2 a mistake.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from experiments import answer, cli, live
from experiments.doctor import Finding, examine
from experiments.errors import ConfigError, Fault
from experiments.runs.find import find, run_in
from experiments.runs.place import work_in


@dataclass(frozen=True)
class Examination:
    """What was examined and found.

    Args:
        examined: the run, or the overrides.
        findings: the most likely root cause first.
    """

    examined: str
    findings: Sequence[Finding]


def main(arguments: list[str] | None = None) -> None:
    """Print the findings."""
    parser = cli.parser("doctor", __doc__, answers=True)
    parser.usage = "%(prog)s [--json] [RUN | OVERRIDE ...]"
    parser.add_argument("what", nargs="*", metavar="RUN | OVERRIDE", help="a run, or as on the command line of a run")
    given = parser.parse_intermixed_args(arguments)
    cli.guarded(lambda: _examine(given), json=given.json)


@live.phase("examining")
def _examine(given: argparse.Namespace) -> int:
    named = [word for word in given.what if "=" not in word and not word.startswith("~")]
    if named and len(given.what) > 1:
        raise ConfigError(Fault(named[0], "a run is examined as it was; give it alone, or overrides alone"))
    folder = find(named[0]) if named else None
    if folder is not None:
        work_in(run_in(folder).start.place)
    findings = examine(given.what if folder is None else folder)
    answer.give(Examination(" ".join(given.what), findings))
    for finding in findings:
        print(f"{finding.rule}: {finding.evidence}\n  try   {finding.remedy}\n  read  {finding.docs}")
    if not findings:
        print("nothing found")
    return int(bool(findings))


if __name__ == "__main__":
    main()
