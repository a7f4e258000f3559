"""From a configuration, or a run that is there, to its script."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.config import check
from experiments.config.registry import register
from experiments.config.root import RootConfig
from experiments.data.splits import DataSpec, Splits
from experiments.errors import ConfigError, Fault, UserError
from experiments.export_script import restrictions
from experiments.export_script.names_check import require_sound
from experiments.export_script.script import Script
from experiments.export_script.training import Training
from experiments.files import replacing
from experiments.runs import load, preparation
from experiments.runs.find import find, find_run, run_in
from experiments.runs.fingerprint import differences, without_length
from experiments.runs.terminal import relative
from experiments.seeds import derive, noise_kept, noise_state, same_noise
from experiments.tracking import delivered
from experiments.training import build

# How the way to it is told where nothing else is given.
COMMAND = ("python", "-m", "experiments")
ELSEWHERE = (
    "The model or a transform draws noise in evaluation or from numpy or random, which a script does not follow, "
    "so its losses are others."
)


@dataclass(frozen=True)
class Exported:
    """A script, and what a reader of it should know.

    Args:
        text: the script.
        splits: the rows it was made for.
        reads_rows: whether it reads them from a file that has to come with it (`write_rows`).
        notes: what it leaves out, or what has changed since the run it is of.
    """

    text: str
    splits: Splits
    reads_rows: bool
    notes: Sequence[str] = ()

    def write_rows(self, path: Path) -> None:
        """Keep the rows that the script reads: x and y of both splits, as .npz."""
        parts = {"train": self.splits.train, "valid": self.splits.valid}
        arrays = {
            f"{axis}_{part}": split.tensors[index] for part, split in parts.items() for index, axis in enumerate("xy")
        }
        with replacing(path) as temporary, temporary.open("wb") as file:
            content: Any = {name: tensor.numpy() for name, tensor in arrays.items()}
            np.savez_compressed(file, **content)


def export(what: Sequence[str], *, rows: str = "rows.npz", output_root: str | Path = "outputs") -> Exported:
    """The script of a configuration (its overrides), or of a run that is there (its folder or MLflow id, alone).

    Raises:
        ConfigError: there is no such run, or no one script can hold it.
        DataError: the dataset cannot be had.
    """
    if len(what) == 1 and "=" not in what[0]:
        return _of_run(find(what[0], output_root), rows)
    return of(check.configured(what).root, what, origin=shlex.join([*COMMAND, *what]), rows=rows)


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Whatever components of one's own lead to here is one message: a training goes on without its script."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # its source and its first call may raise whatever they like
        told = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(Fault("export_script", f"no script can be made of these components: {told}")) from error


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
    """The script of a checked configuration.

    Args:
        root: the configuration.
        overrides: the command line's, for a stage that `init_from` names.
        origin: which run it is of, in words.
        rows: the file it reads its rows from, where its dataset has no plain form.
        epochs: how many the run trained; None for all that are configured.
        notes: what is to be told beside.
    """
    splits = build.load_dataset(root.dataset)
    trainings = list(_trainings(root, overrides, splits.spec, epochs))
    drawn = _drawn(trainings[-1], splits.spec)
    notes = [*notes, *restrictions.notes(trainings, splits), *([ELSEWHERE] if drawn.elsewhere else [])]
    reads_rows = "plain" not in register.dataset.get(root.dataset["name"]).metadata
    told = (
        [f"It reads its rows from {rows}, which experiments.export_script --rows {rows} writes."] if reads_rows else []
    )
    heading = [
        f"Plain PyTorch of {origin}",
        "",
        f"On the same machine, with torch {torch.__version__}, it prints that run's losses to the last bit.",
        *told,
        *notes,
    ]
    text = Script(
        heading,
        trainings,
        splits.spec,
        draws_noise=drawn.in_steps,
        rows=rows,
        as_bytes=reads_rows and splits.train.tensors[0].dtype == torch.uint8,
    ).text()
    require_sound(text)
    return Exported(text, splits, reads_rows, notes)


def _of_run(folder: Path, rows: str) -> Exported:
    root = load.configuration(folder)
    run = run_in(folder)
    trained = len(run.history)
    if not trained:
        raise ConfigError(Fault(relative(folder), "it has no epoch that ended; there is nothing to repeat"))
    # A stage would have to be trained to see whether its weights are the same; those of a run are there.
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
    """The run's own training, after those that give it its weights."""
    if root.init_from is not None:
        run = find_run(Path(root.output_root), root.init_from)
        first = preparation.stage(root.init_from, overrides) if run is None else load.configuration(run)
        restrictions.require_repeatable(root.init_from, first, run, spec)
        yield from _trainings(first, overrides if run is None else run_in(run).overrides, spec)
    name = f"Stage {root.tutorial['number']}" if root.tutorial else "The run"
    yield Training(name, root, derive(root.seed, root.seeds.model_dump()), epochs or root.epochs)


@dataclass(frozen=True)
class _Drawn:
    """Where noise is drawn.

    Args:
        in_steps: whether a training step takes from torch's global generator, for dropout or a transform.
        elsewhere: whether there is more: in evaluation, which a run begins with, or from numpy or random.
    """

    in_steps: bool
    elsewhere: bool


def _drawn(training: Training, spec: DataSpec) -> _Drawn:
    """Where the model and the transforms draw noise, as two passes show."""
    cpu = torch.device("cpu")
    with noise_kept(), torch.no_grad():  # a training may be going on with it
        model = build.build_model(training.root, spec, training.seeds)
        states = [noise_state(cpu)]
        for trains in (True, False):
            (model.train if trains else model.eval)()
            xb = torch.zeros(2, *build.input_shape(training.root, spec))
            for transform, training_only in build.transforms(training.root, spec):
                if trains or not training_only:
                    xb = transform(xb)
            model(xb)
            states.append(noise_state(cpu))
    before, trained, evaluated = states
    others_moved = not same_noise(before | {"torch": trained["torch"]}, trained)
    in_steps = not torch.equal(before["torch"], trained["torch"])
    return _Drawn(in_steps, others_moved or not same_noise(trained, evaluated))
