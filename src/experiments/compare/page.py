"""A comparison as one page that needs nothing else: no script, nothing fetched, every name in it escaped."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from experiments.compare import curves, digits, rows, seeds
from experiments.compare.comparison import Comparison
from experiments.compare.style import CSS
from experiments.sweeps.summary import PARITY, are_stages, stage_rows

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
WORDS = ("gain", "against the first")  # columns that hold sentences

FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def page(comparison: Comparison, sweeps: Sequence[Path], axis: str) -> str:
    """The whole page.

    Args:
        comparison: what is shown.
        sweeps: folders that may hold parity verdicts.
        axis: of the curves.
    """
    stages = _stages(comparison)
    title = f"{'The stages' if stages else 'Runs'} compared by {comparison.metric}"
    parts = [_opening(title, comparison), *_groups(comparison), *_table(comparison, stages), *_curves(comparison, axis)]
    parts += [*digits.sections(comparison), *_parity(sweeps), *_notes(comparison)]
    parts.append("<footer>Made by python -m experiments.compare from the journals of the runs.</footer>")
    return FRAME.format(policy=POLICY, title=escape(title), css=CSS, body="\n".join(parts))


def table(lines: Sequence[Mapping[str, str]], best: int | None = None) -> str:
    """Rows under their keys; numbers stand to the right, what is better is marked."""
    numbers = {key for key in lines[0] if all(_is_number(line[key]) for line in lines)}

    def cell(key: str, text: str) -> str:
        look = ["n"] * (key in numbers) + ["better"] * text.endswith(" better") + ["words"] * (key in WORDS)
        return f'<td class="{" ".join(look)}">{escape(text)}</td>' if look else f"<td>{escape(text)}</td>"

    head = "".join(f'<th{" class=n" * (key in numbers)} scope="col">{escape(key)}</th>' for key in lines[0])
    body = "\n".join(
        f"<tr{' class=best' * (number == best)}>{''.join(cell(key, text) for key, text in line.items())}</tr>"
        for number, line in enumerate(lines)
    )
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("", "-")
    return True


def _opening(title: str, comparison: Comparison) -> str:
    times = [run.job.start.time / 1000 for run in comparison.runs if run.job.started]
    days = sorted({datetime.datetime.fromtimestamp(time).astimezone().date().isoformat() for time in times})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    direction = "larger" if comparison.best.modes[comparison.metric] == "max" else "smaller"
    count = len(comparison.runs)
    return (
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="soft">{count} {"run" if count == 1 else "runs"}, trained {when}. {escape(comparison.metric)}: '
        f"{direction} is better, and each run counts by its best epoch.</p>\n"
        f'<p class="answer">{escape(rows.headline(comparison, seeds.figure))}</p>'
    )


def _groups(comparison: Comparison) -> Iterator[str]:
    found = seeds.groups(comparison)
    if seeds.repeated(found):
        yield "<h2>Is it more than chance?</h2>"
        yield "<p>Runs that differ by their seed alone are one group. sd is how far they spread around their mean.</p>"
        yield table(seeds.rows(found, comparison.metrics))


def _stages(comparison: Comparison) -> dict[Path, dict[str, str]]:
    """Of a comparison of the tutorial's stages, the row of each run's folder."""
    begun = [run.job for run in comparison.runs if run.job.started]
    if not are_stages(begun):
        return {}
    return {job.folder: row for job, row in zip(begun, stage_rows(begun), strict=True)}


def _table(comparison: Comparison, stages: Mapping[Path, Mapping[str, str]]) -> Iterator[str]:
    yield f"<h2>{'The stages' if stages else 'The runs'}</h2>"
    told = rows.rows(comparison)
    if stages:
        yield (
            "<p>What each refactoring gains, a training figure that the tutorial prints (from unseeded runs) beside "
            "the same of this run, and what came out on the validation pictures.</p>"
        )
        told = [_with_stage(row, stages.get(run.job.folder)) for run, row in zip(comparison.runs, told, strict=True)]
    # Of several seeds the best one is luck.
    single = not seeds.repeated(seeds.groups(comparison))
    yield table(told, best=comparison.runs.index(comparison.best) if single else None)


def _with_stage(row: Mapping[str, str], stage: Mapping[str, str] | None) -> dict[str, str]:
    names = {"gain": "gain", "printed": "the tutorial\nprints", "ours": "this run\ngives"}
    extra = {name: stage[key] if stage else "-" for key, name in names.items()}
    return {"stage": row["stage"], **extra, **{key: text for key, text in row.items() if key not in ("run", "stage")}}


def _curves(comparison: Comparison, axis: str) -> Iterator[str]:
    yield "<h2>Curves</h2>"
    drawn = []
    for metric in comparison.metrics:
        label = escape(f"{metric} of each run by {curves.AXES[axis]}", quote=True)
        element = curves.svg(comparison, metric, axis).replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
        drawn.append(f"<figure>{element}</figure>")
    yield f'<div class="curves">{"".join(drawn)}</div>'


def _parity(sweeps: Sequence[Path]) -> Iterator[str]:
    for sweep in sweeps:
        if not (sweep / PARITY).is_file():
            continue
        yield "<h2>Is it the same training?</h2>"
        try:
            found = json.loads((sweep / PARITY).read_text(encoding="utf-8"))
            told = [_verdict(item) for item in found]
        except (ValueError, TypeError, KeyError, AttributeError):
            yield f"<p>{PARITY} of {escape(sweep.name)} cannot be read.</p>"
            continue
        yield (
            "<p>Each two neighbours were trained from the same weights on the same batches and compared step by step: "
            "identical in every bit, equal but for rounding, or different from some step on.</p>"
        )
        yield table(told) if told else "<p>No pair was compared.</p>"


def _verdict(item: Mapping[str, object]) -> dict[str, str]:
    pair, difference = item["pair"], item.get("difference")
    if not isinstance(pair, list):
        raise TypeError(pair)
    return {
        "from": str(pair[0]),
        "to": str(pair[1]),
        "verdict": str(item["verdict"]),
        "where": str(item.get("where") or "-"),
        "largest difference": f"{difference:.1e}" if isinstance(difference, int | float) else "-",
        "expected": str(item.get("expected") or "-"),
        "as expected": "-" if "holds" not in item else "yes" if item["holds"] else "no",
    }


def _notes(comparison: Comparison) -> Iterator[str]:
    notes = [*comparison.notes, *seeds.notes(seeds.groups(comparison), comparison.metric)]
    if notes:
        yield "<h2>Before you believe it</h2>"
        yield f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>"
