"""Checkpoints: all of a training's state in one file, written whole, checked when read, with the one before kept.

A file's name tells where in the training it was taken and the start of its own SHA-256,
`last-EPOCH-STEP-SHA256.pt`, so that name and content arrive together, and a damaged file is known by its name. They
hold tensors and plain values only, and are read as such (`weights_only=True`).
"""

from __future__ import annotations

import gc
import hashlib
import io
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.errors import CheckpointError
from experiments.files import TEMPORARY, replacing

log = logging.getLogger(__name__)

FOLDER = "checkpoints"
SCHEMA = 2
KEPT = 2  # the newest and the one before, should the newest be damaged
LOOK_EACH = 100  # writes
NAME = re.compile(r"(last|best)-(\d{5,})-(\d{6,})-([0-9a-f]{16})\.pt")

State = dict[str, Any]
# What torch reads again from a file that it does not trust, beside tensors.
PLAIN = (type(None), bool, int, float, complex, str, bytes)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they lie, made when the first is written.
        key: identifies the training, whatever its length; another one's checkpoints are refused.
        every_epochs: save after each so many epochs; None for never.
        every_steps: likewise within an epoch, counted from the training's first step.
        every_seconds: save at the end of a step or epoch once so much time has passed.
        best: keep the weights of the epoch with the lowest validation loss as well.
    """

    def __init__(
        self,
        folder: Path,
        *,
        key: str = "",
        every_epochs: int | None = 1,
        every_steps: int | None = None,
        every_seconds: float | None = None,
        best: bool = True,
    ) -> None:
        self.folder, self.key = folder, key
        self.every_epochs, self.every_steps, self.every_seconds = every_epochs, every_steps, every_seconds
        self.best = best
        self._saved_at = time.monotonic()
        self._written = 0

    def due_after_step(self, step: int) -> bool:
        """Whether to save after so many steps of the training."""
        return (self.every_steps is not None and step % self.every_steps == 0) or self._time_is_over()

    def due_after_epoch(self, epochs: int) -> bool:
        """Whether to save after so many epochs."""
        return (self.every_epochs is not None and epochs % self.every_epochs == 0) or self._time_is_over()

    def save(self, state: State, *, epoch: int, step: int) -> None:
        """Keep the state; epoch and step are where the training goes on.

        Raises:
            CheckpointError: it holds something that could not be read again.
        """
        if found := find_unserializable(state):
            raise CheckpointError(f"the training's state cannot be kept: it holds {found}")
        self._write("last", {"schema": SCHEMA, "key": self.key, **state}, epoch, step, KEPT)
        self._saved_at = time.monotonic()

    def save_best(self, weights: Mapping[str, torch.Tensor], *, epoch: int) -> None:
        """Keep these weights as the best so far."""
        if self.best:
            self._write("best", dict(weights), epoch, 0, 1)

    def newest(self) -> State | None:
        """The newest state that is whole; None where none was ever saved.

        Raises:
            CheckpointError: there are some and none can be used, or it is another training's or a newer version's.
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
                    f"{SCHEMA}); upgrade, or go on with the version that made it"
                )
            if state.get("key") != self.key:
                raise CheckpointError(f"{path} was made by another training than this one")
            return state
        if reasons:
            listed = "\n  ".join(reasons)
            raise CheckpointError(f"no checkpoint in {self.folder} can be used:\n  {listed}")
        return None

    def best_weights(self) -> tuple[State, int] | None:
        """The weights that `save_best` kept, and their epoch; None where there are none.

        Raises:
            CheckpointError: they are damaged.
        """
        files = self._files("best")
        if not files:
            return None
        match = NAME.fullmatch(files[-1].name)
        assert match is not None
        return _read(files[-1]), int(match[2])

    def tidy(self) -> None:
        """Remove what a process that died left half written; for the run's owner."""
        for leftover in self.folder.glob(f"*{TEMPORARY}"):
            leftover.unlink()

    def _time_is_over(self) -> bool:
        return self.every_seconds is not None and time.monotonic() - self._saved_at >= self.every_seconds

    def _write(self, kind: str, state: State, epoch: int, step: int, kept: int) -> None:
        """Write one file and remove those it makes superfluous; a full disk is told, and the training goes on."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        self._tidy_memory()
        digest = hashlib.sha256(content).hexdigest()[:16]
        path = self.folder / f"{kind}-{epoch:05d}-{step:06d}-{digest}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            log.warning(
                "no checkpoint at epoch %d, step %d: %s needs %s bytes (%s); those before are as they were, "
                "and the next one is tried when it is due",
                epoch, step, path, f"{len(content):,}", error,
            )  # fmt: skip
            return
        # Those of a later place are of no use: the training went back behind them, since they are damaged.
        files = self._files(kind)
        here = files.index(path) + 1
        for other in [*files[: max(0, here - kept)], *files[here:]]:
            other.unlink()

    def _tidy_memory(self) -> None:
        """Now and then, let go of what torch.save left: its pickler is a cycle that holds copies of the state.

        Each look puts off Python's own, which are rare in our processes and alone find a sweep's old configurations.
        """
        self._written += 1
        if self._written % LOOK_EACH == 0:
            gc.collect(0)

    def _files(self, kind: str) -> list[Path]:
        """The files of one kind, oldest first."""
        found = [(match, path) for path in self.folder.glob("*.pt") if (match := NAME.fullmatch(path.name))]
        ordered = sorted((int(match[2]), int(match[3]), path) for match, path in found if match[1] == kind)
        return [path for _, _, path in ordered]


def find_unserializable(state: Any, where: str = "") -> str | None:
    """The first thing in a state that could be written, but not read again, in words; None where there is none."""
    if isinstance(state, torch.Tensor) or type(state) in PLAIN:
        return None
    if type(state) in (dict, OrderedDict):
        parts = [(part, f"{where}[{key!r}]") for key, value in state.items() for part in (key, value)]
    elif type(state) in (list, tuple):
        parts = [(part, f"{where}[{index}]") for index, part in enumerate(state) if type(part) not in PLAIN]
    else:
        kind = type(state)
        found = f"a {kind.__module__}.{kind.__qualname__} at {where}; tensors and plain values alone can be read again"
        return None if _is_read_again(state) else found
    return next(filter(None, (find_unserializable(*part) for part in parts)), None)


def _is_read_again(value: Any) -> bool:
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    except Exception:  # noqa: BLE001  # of the pickler, of the value's own code
        return False
    return True


def _read(path: Path) -> State:
    """One checkpoint, if its content is what its name says."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    match = NAME.fullmatch(path.name)
    assert match is not None
    if hashlib.sha256(content).hexdigest()[:16] != match[4]:
        raise CheckpointError(f"{path} is damaged (its SHA-256 is another than its name says)")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  # what is no checkpoint leads torch's reader to any of them
        raise CheckpointError(f"{path} holds something else than tensors and plain values: {_first(error)}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds no training's state")
    return state


def _first(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
