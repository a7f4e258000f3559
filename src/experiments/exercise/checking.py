"""Train a learner's script beside the stage, for twenty steps, and its answer in variants that nobody sees."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from experiments.config.language import Phrase
from experiments.errors import ConfigError
from experiments.exercise import tracing
from experiments.exercise.ladder import HINTS, climb
from experiments.exercise.tasks import Task
from experiments.exercise.tracing import Trace
from experiments.export_script.exporting import Exported, export

# Traces scripts, each with its rows; the folder is for files of its own.
Traces = Callable[[Sequence[tuple[Path, Path]], Path], list[Trace]]

TRAIN, VALID = 620, 300  # two epochs of ten steps; the last batches are smaller
USUAL = ("dataset=mnist_5k", "device.threads=1", "epochs=2")
VARIANTS = {
    "another seed": ("seed=7",),
    "another batch size": ("loader.batch_size=48", "loader.valid_batch_size=80"),
    "images of another shape": (
        "dataset=synthetic",
        "dataset.shape=[1,20,20]",
        "dataset.train=2000",
        "dataset.valid=300",
    ),
}
OTHER_ROWS = 1000  # the first row of those that no learner has


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Args:
        rung: where the answer first differs, a key of `ladder.HINTS`; empty where it is right.
        said: the same in words and numbers; empty likewise.
        hint: one, for the rung.
        variant: in which variant, if not in the learner's own script.
    """

    rung: str = ""
    said: str = ""
    hint: str = ""
    variant: str = ""


@dataclass(frozen=True)
class Setting:
    """A stage's script, a learner's for the same setting, and from which training row on both get rows."""

    variant: str
    script: Exported
    text: str
    first_row: int = 0


def exported(task: Task, *more: str) -> Exported:
    """Return the script of an exercise's stage, with its rows.

    Raises:
        ConfigError: the stage cannot have the further overrides.
    """
    return export([f"stage={task.stage}", *USUAL, *task.overrides, *more], rows="rows.npz")


def write_rows(script: Exported, path: Path, first: int = 0) -> None:
    """Write a few rows of a script's dataset, from the `first` of its training rows on."""
    kept: Any = {}
    for name, values in script.rows.values().items():
        count, start = (TRAIN, first) if name.endswith("train") else (VALID, 0)
        kept[name] = cast("Tensor", values)[start : start + count].numpy()
    np.savez(path, **kept)


def check(task: Task, text: str, learners: Traces) -> Checked:
    """Return where a learner's script first differs from the stage, in its own setting, else in a variant of it."""
    own = exported(task)
    if found := _compared([Setting("", own, text)], learners):
        return found
    return _compared(list(_variants(task, own, text)), learners) or Checked()


def _variants(task: Task, own: Exported, text: str) -> Iterator[Setting]:
    yield Setting("other rows", own, text, OTHER_ROWS)
    answer = task.answer(text) if task.first else None
    for name, more in VARIANTS.items() if answer is not None else ():
        try:
            script = exported(task, *more)
        except ConfigError:  # the stage's model has one shape
            continue
        if task.solution(script.text) == task.solution(own.text):  # else the variant's numbers belong into the answer
            yield Setting(name, script, task.filled(script.text, answer or ()))


def _compared(settings: Sequence[Setting], learners: Traces) -> Checked | None:
    """Return where the learner's script first differs in these settings; None if it does nowhere."""
    with tempfile.TemporaryDirectory(prefix="exercise-") as folder:
        jobs, stages = [], []
        for number, setting in enumerate(settings):
            script, stage, rows = (Path(folder, f"{number}-{name}") for name in ("script.py", "stage.py", "rows.npz"))
            write_rows(setting.script, rows, setting.first_row)
            script.write_text(setting.text, encoding="utf-8")
            stage.write_text(setting.script.text, encoding="utf-8")
            jobs.append((script, rows))
            stages.append((stage, rows))
        for setting, stage_of, given in zip(settings, stages, learners(jobs, Path(folder)), strict=True):
            if found := climb(tracing.trace(*stage_of), given):
                rung, said = found
                return Checked(rung, said, Phrase(HINTS[rung]), Phrase(setting.variant) if setting.variant else "")
    return None
