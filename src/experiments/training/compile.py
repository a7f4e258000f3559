"""`device.compile`: the model's calls through torch.compile, and its errors as one message."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from experiments.data.batches import Batches
from experiments.errors import ConfigError, Fault
from experiments.training.step import Forward

KEY = "device.compile"


def compiled(forward: Forward, name: str, valid: Batches) -> Forward:
    """Return the same with the model's calls compiled, the first one here, before the run starts.

    Sizes are symbols, so that the last, smaller batch needs no graph of its own, and a resumed training gets the same
    graphs, whichever batch comes first.

    Raises:
        ConfigError: torch cannot compile the model `name`.
    """
    if not isinstance(forward.model, nn.Module):
        raise ConfigError(Fault(KEY, f"torch.compile needs an nn.Module; model {name} is not one. Set {KEY}=false"))
    # Else torch counts what earlier trainings of this process compiled, and stops compiling at eight.
    torch.compiler.reset()
    call: Callable[[Tensor], Any] = torch.compile(forward.model, dynamic=True)
    forward = replace(forward, compiled=call)
    with forward.evaluating(), in_words():  # as in evaluation, which then reuses it
        xb, _ = next(valid.epoch(0))
        forward.predict(forward.moved(xb))
    return forward


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Raise an error of torch's compiler as one message.

    Raises:
        ConfigError: the model cannot be compiled here.
    """
    try:
        yield
    except RuntimeError as error:
        # By name: importing the compiler takes a second, and a run without it has no such errors.
        if not any(kind.__name__ == "TorchDynamoException" for kind in type(error).__mro__):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]  # "backend='inductor' raised:", reason
        raise ConfigError(Fault(KEY, f"torch cannot compile the model here: {reason}. Set {KEY}=false")) from error
