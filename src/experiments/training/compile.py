"""`device.compile`: the model's calls through torch.compile, and what goes wrong there in a user's words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiments.errors import ConfigError, Fault

KEY = "device.compile"


def compiled(model: Any, name: str) -> Callable[[Tensor], Any]:
    """A model's call, compiled when it is first used; the model itself stays as it is.

    Sizes are symbols, so that the last, smaller batch needs no graph of its own, and a training that goes on gets the
    graphs it had, whichever batch comes first.

    Raises:
        ConfigError: torch does not compile such a model.
    """
    if not isinstance(model, nn.Module):
        problem = f"model {name} is no nn.Module; torch.compile needs one. Set {KEY}=false"
        raise ConfigError(Fault(KEY, problem))
    # Else torch counts what earlier trainings of this process had compiled, and at eight no longer compiles.
    torch.compiler.reset()
    call: Callable[[Tensor], Any] = torch.compile(model, dynamic=True)
    return call


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Tell what torch's compiler cannot do as one message.

    Raises:
        ConfigError: the model cannot be compiled here.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_the_compilers(error):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        reason = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]  # "backend='inductor' raised:", and what
        problem = f"torch cannot compile the model here: {reason}; {KEY}=false does without"
        raise ConfigError(Fault(KEY, problem)) from error


def _is_the_compilers(error: RuntimeError) -> bool:
    # By name: importing the compiler takes a second, and who does not compile has no such errors.
    return any(kind.__name__ == "TorchDynamoException" for kind in type(error).__mro__)
