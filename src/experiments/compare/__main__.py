"""`python -m experiments.compare [WHAT ...]`: runs side by side; with nothing named, those of the latest sweep.

WHAT is the folder of a run or of a sweep, an MLflow run id, or the name of an MLflow experiment. The first run is what
the others are measured by. Runs that differ by seed alone are one group, and what is said of groups says how sure it
is. Everything is read from the journals in the output folders, so no MLflow is needed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments import cli
from experiments.compare import rows, seeds
from experiments.compare.comparison import METRIC, Comparison, compare
from experiments.compare.selection import Chosen, choose
from experiments.config.store_uri import masked, store_uri
from experiments.errors import ConfigError, Fault
from experiments.files import folder_fault, replacing
from experiments.runs.terminal import relative, ui_command
from experiments.sweeps.summary import table
from experiments.tracking import delivered, links, record
from experiments.tracking.delivered import Delivered

FOLDER = "comparisons"


def main(arguments: list[str] | None = None) -> None:
    """Show them; exit codes: 0, 2 for what cannot be compared."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", metavar="WHAT", help="default: the latest sweep")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page that can be handed out, too")
    parser.add_argument("--axis", choices=("epoch", "samples", "seconds"), default="epoch", help="of the curves")
    parser.add_argument("--metric", default=METRIC, help=f"what they are compared by; default: {METRIC}")
    parser.add_argument("--mode", choices=("min", "max"), help="which value of it is best; default: by its name")
    parser.add_argument("--output-root", type=Path, default=Path("outputs"), metavar="FOLDER", help="where runs are")
    given = parser.parse_args(arguments)
    cli.guarded(lambda: _compare(given))


def _compare(given: argparse.Namespace) -> None:
    for folder in (given.output_root, *([given.html.absolute().parent] if given.html else [])):
        if problem := folder_fault(folder):
            raise ConfigError(Fault(str(folder), problem))
    if given.html and (given.html.is_dir() or not given.html.absolute().parent.is_dir()):
        raise ConfigError(Fault(f"--html {given.html}", "this is a folder, or lies in one that is not there"))
    chosen = choose(given.what, given.output_root)
    comparison = compare(chosen, given.metric, given.mode)
    told = [*_answer(comparison), *_pictures(comparison, chosen, given)]
    told += _look([run.job.folder for run in comparison.runs if run.job.started], given.metric)
    try:
        print("\n".join(told), flush=True)
    except BrokenPipeError:  # whoever read it has read enough; what is left is flushed into nothing
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _answer(comparison: Comparison) -> Iterator[str]:
    yield f"{table(rows.rows(comparison), 'simple')}\n"
    found = seeds.groups(comparison)
    if seeds.repeated(found):
        yield f"{table(seeds.rows(found, comparison.metrics), 'simple')}\n"
    yield from (rows.headline(comparison), *comparison.notes, *seeds.notes(found, comparison.metric))


def _pictures(comparison: Comparison, chosen: Chosen, given: argparse.Namespace) -> Iterator[str]:
    """Draw the curves, write the page if one is asked for, and tell where they are."""
    # Imported now: what cannot be compared is told without waiting for matplotlib.
    from experiments.compare import curves

    now = datetime.datetime.now().astimezone()
    picture = given.output_root / FOLDER / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S-%f}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    with replacing(picture) as temporary:
        curves.png(comparison, given.axis, temporary)
    yield f"curves  {relative(picture)}"
    if given.html:
        from experiments.compare import page

        with replacing(given.html) as temporary:
            temporary.write_text(page.page(comparison, chosen.sweeps, given.axis), encoding="utf-8")
        yield f"page    {relative(given.html)}"


def _look(folders: Sequence[Path], metric: str) -> Iterator[str]:
    """The runs' curves in the UI of each store that they are in."""
    stores: dict[str, list[Delivered]] = {}
    missing = 0
    for folder in folders:
        state = delivered.state(folder)
        if state.store and state.run_id:
            stores.setdefault(state.store, []).append(state)
        else:
            missing += record.start_of(folder).store is not None
    for store, states in stores.items():
        own = store_uri(None)
        uri = own if masked(own) == store else store
        yield f"MLflow  {links.runs(uri, states, metric)}"
        if served := ui_command(uri):
            yield f"        (start the UI first: {served})"
    if missing:
        yield f"{missing} of {len(folders)} runs are not in MLflow; upload them: python -m experiments.sync"


if __name__ == "__main__":
    main()
