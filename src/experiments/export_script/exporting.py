"""Make the script of a configuration, or of a run."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from experiments.config import check
from experiments.config.root import RootConfig
from experiments.data.splits import DataSpec
from experiments.errors import ConfigError, Fault, UserError
from experiments.export_script import restrictions
from experiments.export_script.rows import StoredRows
from experiments.export_script.script import Script
from experiments.export_script.soundness import sound
from experiments.export_script.training import Training
from experiments.export_script.trial import tried
from experiments.runs import load, preparation
from experiments.runs.find import find, find_run, run_in
from experiments.runs.fingerprint import differences, without_length
from experiments.runs.terminal import relative
from experiments.seeds import derive, noise_kept
from experiments.tracking import delivered
from experiments.training import build
from experiments.training.transfer import frozen as select

COMMAND = ("python", "-m", "experiments")
ELSEWHERE = (
    "The model or a transform draws noise in evaluation or from numpy or random, which a script does not follow, "
    "so its losses are others."
)


@dataclass(frozen=True)
class Exported:
    """A script.

    Args:
        text: its code.
        rows: the rows that it was made for.
        reads_rows: whether it reads them from a file (`write_rows`).
        notes: what it leaves out, or what changed since the run it is of.
    """

    text: str
    rows: StoredRows
    reads_rows: bool
    notes: Sequence[str] = ()

    def write_rows(self, path: Path) -> None:
        """Write the rows that the script reads."""
        self.rows.write(path)


def export(what: Sequence[str], *, rows: str = "rows.npz", output_root: str | Path = "outputs") -> Exported:
    """Return the script of a configuration (its overrides), or of a run (its folder or MLflow id, alone).

    Raises:
        ConfigError: there is no such run, or one script cannot hold it.
        DataError: the dataset is unavailable.
    """
    if len(what) == 1 and "=" not in what[0]:
        return _of_run(find(what[0], output_root), rows)
    return of(check.configured(what).root, what, origin=shlex.join([*COMMAND, *what]), rows=rows)


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Turn any error of user components into one ConfigError, so that a training continues without its script."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # user code may raise anything
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(Fault("export_script", f"no script can be made of these components: {text}")) from error


@_in_one_line()
def of(
    root: RootConfig,
    overrides: Sequence[str],
    *,
    origin: str,
    rows: str = "rows.npz",
    epochs: int | None = None,
    notes: Sequence[str] = (),
) -> Exported:
    """Return the script of a checked configuration.

    Args:
        root: the configuration.
        overrides: the command line's, for a stage that `init_from` names.
        origin: the run in words, for the heading.
        rows: the file it reads its rows from, where its dataset has no plain form.
        epochs: how many the run trained; None for all that are configured.
        notes: further ones.
    """
    splits = build.load_dataset(root.dataset, root.loss["name"])
    trainings = list(_trainings(root, overrides, splits.spec, epochs))
    trial = tried(trainings[-1], splits)
    notes = [*notes, *restrictions.notes(trainings, splits), *([ELSEWHERE] if trial.elsewhere else [])]
    reads_rows = trainings[-1].plain_rows is None
    rows_note = f"It reads its rows from {rows}, which experiments.export_script --rows {rows} writes."
    heading = [
        f"Plain PyTorch of {origin}",
        "",
        f"On the same machine, with torch {torch.__version__}, it prints that run's losses to the last bit.",
        *([rows_note] if reads_rows else []),
        *notes,
    ]
    stored = StoredRows(splits, root)
    return Exported(_sound(partial(Script, heading, trainings, trial, stored, rows)), stored, reads_rows, notes)


def _sound(script: Callable[..., Script]) -> str:
    """Return the text of a script that can run.

    The data spec is written into the definitions where that is enough. Where one hands it on, keeps it, or asks for it
    by another name, all get it as an argument, as their source has it.

    Raises:
        ConfigError: there is none.
    """
    try:
        return sound(script().text())
    except ConfigError:
        return sound(script(hands_spec=True).text())


def _of_run(folder: Path, rows: str) -> Exported:
    root = load.configuration(folder)
    run = run_in(folder)
    trained = len(run.history)
    if not trained:
        raise ConfigError(Fault(relative(folder), "the run has no finished epoch, so there is nothing to repeat"))
    # Only the weights of a run can be compared without training.
    weighed = root.init_from is not None and find_run(Path(root.output_root), root.init_from) is not None
    prepared = preparation.prepare(root if weighed else root.model_copy(update={"init_from": None}), ())
    before, now = without_length(run.start.identity), without_length(prepared.identity)
    changed = [line for line in differences(before, now) if weighed or not line.startswith("content of init_from")]
    notes = [f"Since that run this has changed, so its losses may be others: {line}" for line in changed]
    run_id = delivered.state(folder).run_id or "not in MLflow"
    origin = f"the run {run.start.name} ({run_id}) in {relative(folder)}"
    return of(root, run.overrides, origin=origin, rows=rows, epochs=trained, notes=notes)


def _trainings(
    root: RootConfig, overrides: Sequence[str], spec: DataSpec, epochs: int | None = None
) -> Iterator[Training]:
    """Yield the trainings that the run's weights come from, and then its own."""
    restrictions.require_whole(root)
    if root.init_from is not None:
        run = find_run(Path(root.output_root), root.init_from)
        first = preparation.stage(root.init_from, overrides) if run is None else load.configuration(run)
        restrictions.require_repeatable(root.init_from, first, run, spec)
        yield from _trainings(first, overrides if run is None else run_in(run).overrides, spec)
    name = f"Stage {root.tutorial['number']}" if root.tutorial else "The run"
    seeds = derive(root.seed, root.seeds.model_dump())
    with noise_kept():
        frozen = select(build.build_model(root, spec, seeds), root.freeze, root.model["name"])
    yield Training(name, root, seeds, epochs or root.epochs, frozen)
