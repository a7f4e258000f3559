"""Run a training script and keep its steps. A process of its own runs this file for a learner's script: torch alone.

Each line of its input is JSON: `jobs`, a list of [script, rows]; `result`, a file that gets the traces, as plain values
saved by torch, anew after each script, so that where one hangs those before it are kept; and `done`, made then.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import runpy
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # which the first optimiser imports; here it is done before there is a script
from torch import Tensor, nn

MAIN = "__main__"
MOST = 200  # steps; a loop without an end stops here
LINE = re.compile(r"epoch \d+  train/loss (\S+)  valid/loss (\S+)")


@dataclass
class Step:
    """One call of backward().

    Args:
        weights: by name, before it.
        loss: its value.
        batch: what the model got last; None of a model that is no nn.Module.
        moved: whether that was moved to a device.
        moves: how often a tensor was, since the step before.
        gradients: by name, after it.
    """

    weights: dict[str, Tensor]
    loss: float
    batch: Tensor | None
    moved: bool
    moves: int
    gradients: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Epoch:
    """A printed line.

    Args:
        train: the training loss.
        valid: the validation loss.
        training: whether the model is then in training mode; None of one without modes.
        graded: how many batches the model got since the last step with gradients on.
        steps: in this epoch.
    """

    train: float
    valid: float
    training: bool | None
    graded: int
    steps: int


@dataclass
class Trace:
    """What a script did.

    Args:
        steps: at most `MOST`.
        epochs: one for each line that it printed as it should.
        error: what ended it; empty for its end.
        line: of that, in the script.
    """

    steps: list[Step] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    error: str = ""
    line: int | None = None


class TooLongError(Exception):
    """A script takes more steps than any exercise has."""


def trace(script: Path, rows: Path) -> Trace:
    """Run a script with its rows as its only argument, and return what it did; its own prints are dropped."""
    found = Trace()
    watch = _Watch(found)
    arguments, sys.argv = sys.argv, [str(script), str(rows)]
    try:
        with contextlib.redirect_stdout(io.StringIO()), watch.on():
            runpy.run_path(str(script), {"print": watch.printed}, MAIN)
    except TooLongError:
        pass  # its steps are compared all the same
    except BaseException as error:  # noqa: BLE001  # whatever a learner's code raises is an answer
        found.error = f"{type(error).__name__}: {error}".strip().rstrip(":")
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(script)]
        found.line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    finally:
        sys.argv = arguments
    return found


class _Watch:
    """Keeps what a script does, by functions of torch that it calls."""

    def __init__(self, found: Trace) -> None:
        self.found = found
        self.batch: Tensor | None = None
        self.places, self.moves, self.graded = set[int](), 0, 0

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Watch while a script runs."""
        backward, to, threads = Tensor.backward, Tensor.to, torch.get_num_threads()

        def stepped(loss: Tensor, *given: Any, **named: Any) -> None:
            if len(self.found.steps) == MOST:
                raise TooLongError(f"more than {MOST} steps")
            weights = {name: p.detach().clone() for name, p in self._parameters()}
            moved = self.batch is not None and self.batch.data_ptr() in self.places
            batch = None if self.batch is None else self.batch.detach().clone()
            step = Step(weights, float(loss.detach()), batch, moved, self.moves)
            backward(loss, *given, **named)  # type: ignore[no-untyped-call]  # torch's own
            step.gradients = {name: p.grad.clone() for name, p in self._parameters() if p.grad is not None}
            self.found.steps.append(step)
            self.moves, self.graded = 0, 0

        def moved(tensor: Tensor, *given: Any, **named: Any) -> Tensor:
            result: Tensor = to(tensor, *given, **named)
            if any(isinstance(one, torch.device | str) for one in (*given, named.get("device"))):
                result = result.clone() if result is tensor else result
                self.places.add(result.data_ptr())
                self.moves += 1
            return result

        Tensor.backward, Tensor.to = stepped, moved  # type: ignore[method-assign,assignment]  # there is no hook
        hook = nn.modules.module.register_module_forward_pre_hook(self._called)
        try:
            yield
        finally:
            hook.remove()
            Tensor.backward, Tensor.to = backward, to  # type: ignore[method-assign]  # likewise
            torch.set_num_threads(threads)

    def printed(self, *said: Any, **_: Any) -> None:
        """Keep a line that tells an epoch's losses."""
        if line := LINE.fullmatch(" ".join(map(str, said)).strip()):
            training = getattr(self._model, "training", None)
            steps = len(self.found.steps) - sum(epoch.steps for epoch in self.found.epochs)
            train, valid = (float(number) for number in line.groups())
            self.found.epochs.append(Epoch(train, valid, training, self.graded, steps))

    def _called(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module is self._model and inputs and isinstance(inputs[0], Tensor) and torch.is_grad_enabled():
            self.batch = inputs[0]
            self.graded += 1

    @property
    def _model(self) -> Any:
        return getattr(sys.modules[MAIN], "model", None)

    def _parameters(self) -> list[tuple[str, Tensor]]:
        """Return the parameters of the script's `model` by name."""
        model = self._model
        if isinstance(model, nn.Module):
            return list(model.named_parameters())
        return [(f"parameter {number}", p) for number, p in enumerate(model.parameters())] if model is not None else []


def main() -> None:
    """Trace the scripts that the input names, one after the other."""
    lines, sys.stdin = sys.stdin, io.StringIO()  # nobody answers a script
    for line in lines:
        asked, traces = json.loads(line), list[Trace]()
        for script, rows in asked["jobs"]:
            traces.append(trace(Path(script), Path(rows)))
            temporary = Path(asked["result"]).with_suffix(".part")
            torch.save([_plain(one) for one in traces], temporary)
            temporary.replace(asked["result"])
        Path(asked["done"]).touch()


def _plain(one: Trace) -> dict[str, Any]:
    """Return a trace as plain values, which torch loads without running code."""
    steps = [vars(step) for step in one.steps]
    return {**vars(one), "steps": steps, "epochs": [vars(epoch) for epoch in one.epochs]}


if __name__ == "__main__":
    main()
