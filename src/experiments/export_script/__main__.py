"""`python -m experiments.export_script OVERRIDE ... > plain.py`, or with RUN: a run as one script of plain PyTorch.

RUN is a run's folder, its MLflow id or latest. The script needs torch, numpy and requests, and neither this package,
Hydra nor MLflow. It trains and validates as the run does and prints the same losses, on the same machine to the last
bit. It reads MNIST as the tutorial does; --rows writes the rows of any other dataset to a file for it.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from experiments import cli


def main(arguments: list[str] | None = None) -> None:
    """Write the script to standard output."""
    parser = cli.parser("export_script", __doc__)
    parser.add_argument("what", nargs="*", metavar="OVERRIDE | RUN", help="as on the command line of a run, or a run")
    parser.add_argument("--rows", type=Path, metavar="FILE.npz", help="write the rows that the script reads there")
    parser.add_argument("--output-root", default="outputs", help="where a run with an id is searched")
    given = parser.parse_intermixed_args(arguments)
    cli.guarded(lambda: _export(given.what, given.rows, given.output_root))


def _export(what: list[str], rows: Path | None, output_root: str) -> None:
    from experiments.export_script.exporting import export  # needs torch

    with contextlib.redirect_stdout(sys.stderr):  # own components may print
        exported = export(what, rows=str(rows or "rows.npz"), output_root=output_root)
    if rows is not None:
        exported.write_rows(rows)
    elif exported.reads_rows:
        print("note: it reads its rows from rows.npz; --rows rows.npz writes them", file=sys.stderr)
    for note in exported.notes:
        print(f"note: {note}", file=sys.stderr)
    sys.stdout.write(exported.text)


if __name__ == "__main__":
    main()
