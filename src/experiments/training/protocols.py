"""What a training calls on the components that it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Model(Protocol):
    """An nn.Module, or what trains like one."""

    __call__: Callable[..., Any]
    parameters: Callable[[], Iterable[Tensor]]
    train: Callable[[], Any]
    eval: Callable[[], Any]
    to: Callable[..., Any]


@runtime_checkable
class Optimizer(Protocol):
    """A torch optimiser, or a custom one."""

    step: Callable[[], Any]
    zero_grad: Callable[[], Any]


@runtime_checkable
class Loader(Sized, Iterable[tuple[Tensor, Tensor]], Protocol):
    """Batches (xb, yb) that can be counted."""


@runtime_checkable
class Resumable(Protocol):
    """A part whose state a checkpoint keeps."""

    state_dict: Callable[[], Any]
    load_state_dict: Callable[[Any], Any]
