"""The hooks of callbacks: called where a callback overrides them; what a resumed training would lack is one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from experiments.errors import TrainingError
from experiments.training.callback import Callback

REMEDY = "in on_begin, which is called where a training resumes too"


def having(runner: Any, name: str) -> list[Callback]:
    """Return the callbacks that override a hook, in their order."""
    return [c for c in runner.callbacks if getattr(type(c), name) is not getattr(Callback, name)]


def call(name: str, runner: Any, *given: Any) -> None:
    """Call a hook of each callback that has it.

    Raises:
        TrainingError: a callback lacks one of its own attributes, or hooked into the optimiser or the model in
            `on_fit_start`.
    """
    for callback in having(runner, name):
        before = _hooked(runner) if name == "on_fit_start" else []
        who = f"callback {type(callback).__name__}: {name}"
        try:
            getattr(callback, name)(runner, *given)
        except AttributeError as error:
            if error.obj is not callback:
                raise
            problem = f"{who} needs self.{error.name}, which is not set; set it {REMEDY}, or keep it in state_dict()"
            raise TrainingError(problem) from error
        if name == "on_fit_start" and (added := [hook for hook in _hooked(runner) if hook not in before]):
            problem = f"{who} adds to {added[0][0]}, which is lost where a training resumes; do it {REMEDY}"
            raise TrainingError(problem)


@contextlib.contextmanager
def evaluation(runner: Any) -> Iterator[bool]:
    """Have the model as callbacks have it evaluated, once; yield whether any does."""
    around = having(runner, "on_evaluation")
    outer, runner.in_evaluation = runner.in_evaluation, True
    try:
        with contextlib.ExitStack() as contexts:
            for callback in () if outer else around:
                contexts.enter_context(callback.on_evaluation(runner))
            yield bool(around)
    finally:
        runner.in_evaluation = outer


def _hooked(runner: Any) -> list[tuple[str, int, int]]:
    """Return what hooks into the optimiser and the model: the attribute, how many, and of which object."""
    modules = runner.model.modules() if isinstance(runner.model, nn.Module) else [runner.model]
    attributes = [
        (f"{type(part).__name__}.{name}", value, id(part))
        for part in (runner.optimizer, *modules)
        for name, value in getattr(part, "__dict__", {}).items()
        if name.endswith("_hooks") or name in ("step", "zero_grad", "forward")
    ]
    attributes += [("a parameter's hooks", p._backward_hooks, id(p)) for p in runner.model.parameters()]
    return [(name, len(value) if hasattr(value, "__len__") else 1, of) for name, value, of in attributes if value]
