"""Checkpoints: a training's state in one file, written whole and checked when read; the previous one is kept.

A file's name, `last-EPOCH-STEP-SHA256.pt`, has its place in the training and the start of its own SHA-256, so that name
and content arrive together and a damaged file is detected. It holds tensors and plain values (`weights_only=True`).
"""

from __future__ import annotations

import gc
import hashlib
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.errors import CheckpointError, first_line
from experiments.files import TEMPORARY, replacing
from experiments.training.serializable import find_unserializable, packed, unpacked

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
SCHEMA = 2
KEPT = 2  # the previous one too, in case the newest is damaged
LOOK_EACH = 100  # writes between garbage collections
NAME = re.compile(r"(last|best)-(\d{5,})-(\d{6,})-([0-9a-f]{16})\.pt")

State = dict[str, Any]


@dataclass(eq=False)
class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are stored, made with the first one.
        key: identifies the training, whatever its length; another one's checkpoints are refused.
        every_epochs: None for never.
        every_steps: counted from the training's first step; None for never.
        every_seconds: save at the next end of a step or epoch; None for never.
        best: also keep the weights of the epoch with the lowest validation loss.
    """

    folder: Path
    _: KW_ONLY
    key: str = ""
    every_epochs: int | None = 1
    every_steps: int | None = None
    every_seconds: float | None = None
    best: bool = True

    def __post_init__(self) -> None:
        self._saved_at = time.monotonic()
        self._written = 0

    def due_after_step(self, step: int) -> bool:
        """Return whether to save after `step` steps of the training."""
        return (self.every_steps is not None and step % self.every_steps == 0) or self._time_is_over()

    def due_after_epoch(self, epochs: int) -> bool:
        """Return whether to save after `epochs` epochs."""
        return (self.every_epochs is not None and epochs % self.every_epochs == 0) or self._time_is_over()

    def save(self, state: State, *, epoch: int, step: int) -> None:
        """Save the state; epoch and step are where the training resumes.

        Raises:
            CheckpointError: it holds something that torch would not load.
        """
        if found := find_unserializable(state):
            raise CheckpointError(f"the training's state cannot be saved: it holds {found}")
        self._write("last", {"schema": SCHEMA, "key": self.key, **state}, epoch, step, KEPT)
        self._saved_at = time.monotonic()

    def save_best(self, weights: Mapping[str, torch.Tensor], *, epoch: int) -> None:
        """Save these weights as the best so far."""
        if self.best:
            self._write("best", dict(weights), epoch, 0, 1)

    def newest(self) -> State | None:
        """Return the newest undamaged state; None where none was saved.

        Raises:
            CheckpointError: all are damaged, or it is another training's or a newer version's.
        """
        reasons = []
        for path in reversed(self._files("last")):
            try:
                state = _read(path)
            except CheckpointError as error:
                reasons.append(str(error))
                continue
            if reasons:
                log.warning("resuming from the previous checkpoint: %s", "; ".join(reasons))
            if state.get("schema", 0) > SCHEMA:
                raise CheckpointError(
                    f"{path} was made by a newer version of experiments (schema {state['schema']}, this one reads "
                    f"{SCHEMA}); upgrade, or resume with the version that made it"
                )
            if state.get("key") != self.key:
                raise CheckpointError(f"{path} was made by another training")
            return state
        if reasons:
            raise CheckpointError("\n  ".join([f"no checkpoint in {self.folder} can be used:", *reasons]))
        return None

    def best_weights(self) -> tuple[State, int] | None:
        """Return the weights that `save_best` saved and their epoch; None where there are none.

        Raises:
            CheckpointError: they are damaged.
        """
        files = self._files("best")
        return (_read(files[-1]), int(files[-1].name.split("-")[1])) if files else None

    def tidy(self) -> None:
        """Remove files that a killed process left half written; for the run's owner."""
        for leftover in self.folder.glob(f"*{TEMPORARY}"):
            leftover.unlink()

    def _time_is_over(self) -> bool:
        return self.every_seconds is not None and time.monotonic() - self._saved_at >= self.every_seconds

    def _write(self, kind: str, state: State, epoch: int, step: int, kept: int) -> None:
        """Write one file and remove superseded ones; where the disk is full, warn and let the training continue."""
        content = packed(state)
        # torch.save's pickler is a cycle that holds copies of the state. Each collection delays Python's own full ones,
        # which alone free a sweep's old configurations, so they are rare.
        self._written += 1
        if self._written % LOOK_EACH == 0:
            gc.collect(0)
        digest = hashlib.sha256(content).hexdigest()[:16]
        path = self.folder / f"{kind}-{epoch:05d}-{step:06d}-{digest}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            log.warning(
                "no checkpoint at epoch %d, step %d: %s needs %s bytes (%s); earlier ones are kept, "
                "and the next one is tried when it is due",
                epoch, step, path, f"{len(content):,}", error,
            )  # fmt: skip
            return
        # Later ones are damaged: the training resumed from before them.
        files = self._files(kind)
        here = files.index(path) + 1
        for other in [*files[: max(0, here - kept)], *files[here:]]:
            other.unlink()

    def _files(self, kind: str) -> list[Path]:
        """Return the files of one kind, oldest first."""
        found = [(match, path) for path in self.folder.glob(f"{kind}-*.pt") if (match := NAME.fullmatch(path.name))]
        return [path for _, _, path in sorted((int(match[2]), int(match[3]), path) for match, path in found)]


def _read(path: Path) -> State:
    """Return one checkpoint, if its content matches its name."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest()[:16] != path.stem.split("-")[-1]:
        raise CheckpointError(f"{path} is damaged (its SHA-256 differs from its name)")
    try:
        state = unpacked(content)
    except Exception as error:  # noqa: BLE001  # torch's reader may raise any error on other bytes
        problem = f"{path} holds something else than tensors and plain values: {first_line(error)}"
        raise CheckpointError(problem) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds no training's state")
    return state
