"""`device.compile`: the model's calls through torch.compile, and its errors as one message."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiments.errors import ConfigError, Fault

KEY = "device.compile"


def compiled(model: Any, name: str) -> Callable[[Tensor], Any]:
    """Return a model's call, compiled when it is first used; the model stays as it is.

    Sizes are symbols, so that the last, smaller batch needs no graph of its own, and a resumed training gets the same
    graphs, whichever batch comes first.

    Raises:
        ConfigError: the model is not an nn.Module.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(Fault(KEY, f"torch.compile needs an nn.Module; model {name} is not one. Set {KEY}=false"))
    # Else torch counts what earlier trainings of this process compiled, and stops compiling at eight.
    torch.compiler.reset()
    call: Callable[[Tensor], Any] = torch.compile(model, dynamic=True)
    return call


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
