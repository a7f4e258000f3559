"""`device.graph`: the whole training step as one CUDA graph, so that a small model does not wait for Python.

The first full batches are eager steps on a side stream; the next one's step is captured; from then on each batch is
copied to where the graph reads, and the graph is replayed. A smaller batch, the last of an epoch, is an eager step.
https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from experiments.config.registry import Component
from experiments.data import nested
from experiments.data.nested import Nested
from experiments.errors import Fault, TrainingError, first_line
from experiments.seeds import noise_state, same_noise
from experiments.training.step import EagerStep, Forward
from experiments.training.update import Update

KEY = "device.graph"
WARM_UP = 3  # eager steps before the capture, in which libraries and optimisers initialise; torch's own number


class CudaCapture:
    """A CUDA graph, captured on the stream of the warm-up steps."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own is not annotated

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Use a side stream, in order with the current one."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return the graph's replay."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.stream.device), torch.cuda.graph(graph, stream=self.stream):
            work()
        return graph.replay


class GraphedStep(EagerStep):
    """A step that is captured once and then replayed.

    The capture fixes what Python decides in a step; so a change of the optimiser's settings is an error, except for a
    learning rate that a scheduler sets: the optimiser reads it on the device, in eager steps too.

    Args:
        batch_size: rows of a full batch; others are eager steps.
        steered: whether a scheduler sets the learning rates.
    """

    def __init__(
        self, forward: Forward, update: Update, capture: CudaCapture, *, batch_size: int, steered: bool
    ) -> None:
        super().__init__(forward, update)
        self.capture, self.batch_size, self.warmed_up = capture, batch_size, 0
        # CUDA's fused optimisers read a float32.
        dtype = torch.float32 if forward.device.type == "cuda" else torch.float64
        groups = self._groups if steered else []
        self._rates = [torch.tensor(group["lr"], dtype=dtype, device=forward.device) for group in groups]
        self._fixed: list[dict[str, Any]] = []
        self._replay: Callable[[], None] | None = None

    def __call__(self, xb: Nested, yb: Nested, number: int | Tensor) -> tuple[Nested, Tensor]:
        """Take one step; return the predictions and the loss before its update.

        Raises:
            TrainingError: the step cannot be captured, or a setting that the graph has fixed changed.
        """
        for group, rate in zip(self._groups, self._rates, strict=False):
            rate.fill_(group["lr"])
        if nested.rows(xb) != self.batch_size:
            return self._step(xb, yb, number)
        if self.warmed_up < WARM_UP:
            return self._warm_up(xb, yb, number)
        if self._replay is None:
            self._replay = self._captured(xb, yb)
        if _shapes((xb, yb)) != _shapes((self._xb, self._yb)):
            return self._step(xb, yb, number)
        self._require_unchanged()
        nested.apply(Tensor.copy_, (self._xb, self._yb), (xb, yb))
        self._number.fill_(number)
        self._replay()
        # The next replay overwrites them.
        return nested.apply(Tensor.clone, self._pred), self._loss.clone()

    @property
    def _groups(self) -> list[dict[str, Any]]:
        """The optimiser's, which load_state_dict replaces."""
        return getattr(self.update.optimizer, "param_groups", [])

    def _step(self, xb: Nested, yb: Nested, number: int | Tensor, **settings: Any) -> tuple[Nested, Tensor]:
        """Take the eager step, with the learning rates on the device and these settings of fused optimisers."""
        before = [dict(group) for group in self._groups]
        for group, rate in zip(self._groups, self._rates, strict=False):
            group["lr"] = rate
        for group in self._groups:
            group.update({key: value for key, value in settings.items() if key in group and group.get("fused")})
        try:
            return super().__call__(xb, yb, number)
        finally:
            for group, old in zip(self._groups, before, strict=True):
                group.update({key: old[key] for key in ("lr", *settings) if key in old})

    def _warm_up(self, xb: Nested, yb: Nested, number: int | Tensor) -> tuple[Nested, Tensor]:
        self.warmed_up += 1
        host = torch.device("cpu")
        before = noise_state(host)
        with self.capture.aside():
            pred, loss = self._step(xb, yb, number)
        # In an earlier step the compiler may draw.
        drawn = self.warmed_up == WARM_UP and not same_noise(before, noise_state(host))
        if drawn and self.forward.device != host:
            raise TrainingError(
                f"{KEY}: a step draws from the CPU's generators, whose numbers a graph would repeat; "
                f"draw on xb.device, or set {KEY}=false"
            )
        return pred, loss

    def _captured(self, xb: Nested, yb: Nested) -> Callable[[], None]:
        """Return the captured step's replay, which reads the batch from own memory."""
        self._xb, self._yb = nested.apply(Tensor.clone, (xb, yb))
        self._number = torch.zeros((), dtype=torch.int64, device=self.forward.device)
        loose = ("params", "lr") if self._rates else ("params",)
        self._fixed = [{key: value for key, value in group.items() if key not in loose} for group in self._groups]
        try:
            return self.capture(self._work)
        except RuntimeError as error:
            first: BaseException = error
            while first.__context__ is not None:  # the end of a broken capture raises an error of its own
                first = first.__context__
            problem = f"{KEY}: the step cannot be captured: {first_line(first)}"
            raise TrainingError(f"{problem}. Set {KEY}=false") from error

    def _work(self) -> None:
        # `capturable` changes nothing else of a fused optimiser, which warns of it outside a capture.
        self._pred, self._loss = self._step(self._xb, self._yb, self._number, capturable=True)

    def _require_unchanged(self) -> None:
        for group, fixed in zip(self._groups, self._fixed, strict=True):
            for key, value in fixed.items():
                if group[key] != value:
                    problem = f"{KEY}: the optimiser's {key} was {value!r} when its step was captured"
                    raise TrainingError(f"{problem}, and is {group[key]!r} now. Set {KEY}=false to change it")


def _shapes(value: Nested) -> list[torch.Size]:
    return [leaf.shape for leaf in nested.leaves(value)]


def faults(optimizer: Any, component: Component, *, scaled: bool) -> list[Fault]:
    """Return why an optimiser's step cannot be captured, with gradients that are scaled or not.

    A graph repeats the device's work only. Fused torch optimisers keep all state there, others with `capturable`; of a
    custom class it is not known. Only fused ones skip a step without reading from the device.
    """
    if component.metadata.get("capturable"):
        return []
    name = component.name
    if not isinstance(optimizer, torch.optim.Optimizer):
        problem = f"optim {name} is not a torch optimiser, and a graph does not repeat Python"
        return [Fault(KEY, f"{problem}. Set {KEY}=false")]
    if all(group.get("fused") or (group.get("capturable") and not scaled) for group in optimizer.param_groups):
        return []
    remedy = "optim.fused=true" if "fused" in optimizer.defaults else f"{KEY}=false"
    missing = "not fused, which fp16 needs in a graph" if scaled else "neither fused nor capturable"
    return [Fault(KEY, f"optim {name} is {missing}, so its step has work for the CPU. Set {remedy}")]
