"""`python -m experiments.compare [WHAT ...]`: runs side by side; with nothing named, those of the latest sweep.

WHAT is the folder of a run or of a sweep, latest, an MLflow run id, or the name of an MLflow experiment. The other
runs are measured against the first one, each by its best epoch, of each metric its own. Runs that differ by seed
alone (with --over dataset.fold, by fold) are one group, and a verdict on groups says how sure it is. With --baseline
A the others are judged against A, a single group: each is improved, worse, or so many more seeds are needed to tell.
Exit code then: 0 one is improved, else 3 one cannot be told, else 1 all are worse; 2 is a mistake, without --baseline
0 is all else. Everything is read from the journals in the output folders, so no MLflow is needed.
"""

from __future__ import annotations

import argparse
import datetime
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from experiments import answer, cli
from experiments.compare import answers, rows, seeds
from experiments.compare.comparison import METRIC, Comparison, compare
from experiments.compare.selection import choose
from experiments.config.language import NAMES, Language
from experiments.errors import ConfigError, Fault, command
from experiments.files import folder_fault, replacing
from experiments.runs.tables import table
from experiments.runs.terminal import relative
from experiments.sweeps.summary import notes
from experiments.tracking import delivered, links, record
from experiments.tracking.delivered import Delivered

FOLDER = "comparisons"
CELL = 20  # characters of a line in a cell, where a verdict would make the table wider than a terminal


def main(arguments: list[str] | None = None) -> None:
    """Compare the runs that the command line names."""
    parser = cli.parser("compare", __doc__, answers=True)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="default: the latest sweep")
    parser.add_argument("--baseline", metavar="WHAT", help="judge the others against this run and its seeds: latest/0")
    parser.add_argument(
        "--min-effect", type=float, default=0.0, metavar="X",
        help="what a candidate has to differ by, at least, in the metric's units (0)",
    )  # fmt: skip
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a self-contained page")
    parser.add_argument("--axis", choices=("epoch", "samples", "seconds"), default="epoch", help="of the curves")
    parser.add_argument("--metric", default=METRIC, help=f"the metric to compare by; default: {METRIC}")
    parser.add_argument("--mode", choices=("min", "max"), help="which value of it is best; default: by its name")
    parser.add_argument("--over", default="", metavar="KEY,...", help="settings that count as seeds: dataset.fold")
    parser.add_argument("--language", choices=NAMES, help="default: that of the first run")
    parser.add_argument("--output-root", type=Path, default=Path("outputs"), metavar="FOLDER", help="where runs are")
    given = parser.parse_intermixed_args(arguments)
    cli.guarded(lambda: _compare(given), json=given.json)


def _compare(given: argparse.Namespace) -> int:
    _check(given)
    names = [given.baseline, *given.what] if given.baseline else given.what
    jobs, sweeps = choose(names, given.output_root)
    say = Language(given.language) if given.language else Language.of(*(job.folder for job in jobs))
    comparison = compare(jobs, given.metric, given.mode, say, list(filter(None, given.over.split(","))))
    comparison = replace(comparison, notes=[*comparison.notes, *(note for sweep in sweeps for note in notes(sweep))])
    comparison = replace(comparison, least=given.min_effect)
    if given.baseline:
        named = [(name, {job.folder for job in choose([name], given.output_root)[0]}) for name in names]
        comparison = replace(comparison, notes=[*comparison.notes, *answers.check_groups(comparison, named)])
    files = _files(comparison, sweeps, given)
    lines = [*_answer(comparison), *(answers.lines(comparison) if given.baseline else [])]
    lines += [f"{word:7} {relative(path)}" for word, path in files]
    lines += _links([job.folder for job in jobs if job.started], given.metric, say)
    print("\n".join(lines))
    answer.give(answers.answer(comparison, [path for _, path in files]))
    return answers.exit_code(comparison) if given.baseline else 0


def _check(given: argparse.Namespace) -> None:
    """Check the baseline's options, and that the curves and the page can be written."""
    if given.baseline and not given.what:
        raise ConfigError(Fault(f"--baseline {given.baseline}", "name the runs that are compared with it"))
    if not (math.isfinite(given.min_effect) and given.min_effect >= 0):
        raise ConfigError(Fault("--min-effect", f"{given.min_effect:g} is not allowed: it is a number, at least 0"))
    if given.min_effect and not given.baseline:
        raise ConfigError(Fault("--min-effect", "it goes with --baseline"))
    page = given.html.absolute() if given.html else None
    for folder in (given.output_root, *([page.parent] if page else [])):
        if problem := folder_fault(folder):
            raise ConfigError(Fault(str(folder), problem))
    if page and (page.is_dir() or not page.parent.is_dir()):
        raise ConfigError(Fault(f"--html {given.html}", "this is a folder, or its folder does not exist; name a file"))


def _answer(comparison: Comparison) -> Iterator[str]:
    yield f"{table(rows.rows(comparison))}\n"
    groups, say = seeds.groups(comparison), comparison.say
    if seeds.repeated(groups):
        means = seeds.rows(groups, comparison.metrics, say)
        yield f"{table([{head: textwrap.fill(text, CELL) for head, text in row.items()} for row in means])}\n"
    yield from (rows.headline(comparison), *comparison.notes, *seeds.notes(groups, comparison.metric, say))


def _files(comparison: Comparison, sweeps: Sequence[Path], given: argparse.Namespace) -> list[tuple[str, Path]]:
    """Draw the curves, write the page if one is asked for, and return what each file is."""
    # Late: runs that cannot be compared are reported without waiting for matplotlib.
    from experiments.compare import curves, page

    now = datetime.datetime.now().astimezone()
    plot = given.output_root / FOLDER / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S-%f}.png"
    plot.parent.mkdir(parents=True, exist_ok=True)
    with replacing(plot) as temporary:
        curves.png(comparison, given.axis, temporary)
    if not given.html:
        return [(comparison.say("curves"), plot)]
    with replacing(given.html) as temporary:
        temporary.write_text(page.page(comparison, sweeps, given.axis), encoding="utf-8")
    return [(comparison.say("curves"), plot), (comparison.say("page"), given.html)]


def _links(folders: Sequence[Path], metric: str, say: Language) -> Iterator[str]:
    """Yield the address of the runs' curves in the UI of each store that has them."""
    stores: dict[str, list[Delivered]] = {}
    missing = 0
    for folder in folders:
        state = delivered.state(folder)
        if state.store and state.run_id:
            stores.setdefault(state.store, []).append(state)
        else:
            missing += record.start_of(folder).store is not None
    for uri, states in stores.items():
        yield f"MLflow  {links.runs(uri, states, metric)}"
        if served := links.ui_command(uri):
            yield f"        {say('(start the UI first: {command})', command=served)}"
    if missing:
        text = "{missing} of {count} runs are not in MLflow; upload them: {command}"
        yield say(text, missing=missing, count=len(folders), command=command("sync"))


if __name__ == "__main__":
    main()
