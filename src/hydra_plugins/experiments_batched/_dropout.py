"""Dropout in a stack: each model draws its masks from its own noise, before all are computed at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch import Tensor
from torch.overrides import TorchFunctionMode

Mask = tuple[Callable[..., Tensor], Tensor, float]  # a dropout, what it is called with, and its probability

DROPOUTS: Sequence[Any] = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)


def _given(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return a call's arguments by name, with the defaults of those that are not given."""
    parameters = _parameters(func)
    return {**parameters, **dict(zip(parameters, args, strict=False)), **kwargs}


@cache
def _parameters(func: Any) -> dict[str, Any]:
    return {name: one.default for name, one in inspect.signature(func).parameters.items()}


class Recorded(TorchFunctionMode):
    """Records which dropouts a model's call draws."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Mask] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note a dropout, and call the function."""
        if func in DROPOUTS and (found := _active(func, args, kwargs or {})):
            self.masks.append((func, *found))
        return func(*args, **(kwargs or {}))


class Stacking(TorchFunctionMode):
    """Within `vmap`: dropout multiplies by the masks that each model has drawn, and a linear layer is W x, not x W.

    A batched product with the smaller matrix, the layer's few outputs, on the right takes twice as long on a CPU.
    """

    def __init__(self, masks: Sequence[Tensor]) -> None:
        super().__init__()
        self.masks = iter(masks)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function, or what takes its place."""
        kwargs = kwargs or {}
        if func in DROPOUTS and (active := _active(func, args, kwargs)):
            return active[0] * next(self.masks)
        if func is F.linear and args[0].ndim == 2:
            weight, bias = args[1], args[2] if len(args) > 2 else kwargs.get("bias")
            out = torch.mm(weight, args[0].t())
            return (out if bias is None else out + bias[:, None]).t()
        return func(*args, **kwargs)


def _active(func: Any, args: Any, kwargs: Any) -> tuple[Tensor, float] | None:
    """Return the input and the probability of a dropout that draws; None for one that does not."""
    given = _given(func, args, kwargs)
    x, p, training = (given[name] for name in ("input", "p", "training"))
    return (x, p) if training and p > 0 else None


def drawn(masks: Sequence[Mask]) -> Iterator[Tensor]:
    """Draw from torch's generators what the dropouts of one call draw, as factors."""
    for func, ones, p in masks:
        yield func(ones, p, training=True)
