"""The forward pass of many models of one architecture as one: `vmap` over stacked parameters, buffers and batches."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.overrides import TorchFunctionMode

from experiments.data import nested
from experiments.data.nested import Nested
from experiments.seeds import noise_kept
from experiments.training.losses import mean
from experiments.training.step import Forward

State = Mapping[str, Tensor]
Mask = tuple[Callable[..., Tensor], Tensor, float]  # a dropout, what it is called with, and its probability

DROPOUTS: Sequence[Any] = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)


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
        if func in DROPOUTS and (found := _active(func, args, kwargs)):
            return found[0] * next(self.masks)
        if func is F.linear and args[0].ndim == 2:
            weight, bias = args[1], args[2] if len(args) > 2 else kwargs.get("bias")
            out = torch.mm(weight, args[0].t())
            return (out if bias is None else out + bias[:, None]).t()
        return func(*args, **kwargs)


def _active(func: Any, args: Any, kwargs: Any) -> tuple[Tensor, float] | None:
    """Return the input and the probability of a dropout that draws; None for one that does not."""
    given = inspect.signature(func).bind(*args, **kwargs)
    given.apply_defaults()
    x, p, training = (given.arguments[name] for name in ("input", "p", "training"))
    return (x, p) if training and p > 0 else None


class StackedForward:
    """Computes the predictions and losses of stacked models, as `forward` does of one.

    Args:
        forward: of one of the models.
        numbers: the loss's arguments that may differ between the models.
    """

    def __init__(self, forward: Forward, numbers: Sequence[str]) -> None:
        self.forward, self.numbers = forward, numbers
        self.model: nn.Module = forward.model
        self._recorded: dict[Any, list[Mask]] = {}

    def masks(self, xb: Nested) -> list[Mask]:
        """Return the dropouts that a training call with a batch of one model, after its transforms, draws, in order."""
        key = tuple(leaf.shape for leaf in nested.leaves(xb))
        if key not in self._recorded:
            with torch.no_grad(), noise_kept(), Recorded() as recorded:
                copy.deepcopy(self.model).train()(xb)
            self._recorded[key] = [(func, torch.ones_like(x), p) for func, x, p in recorded.masks]
        return self._recorded[key]

    def __call__(
        self,
        params: State,
        buffers: State,
        batch: tuple[Nested, Nested],
        numbers: State,
        masks: Sequence[Tensor] = (),
        *,
        shared: bool = False,
    ) -> tuple[Nested, Any, Tensor]:
        """Return each model's predictions, what its loss returned, and the mean loss; (models, ...).

        The batch is (models, rows, ...), or one for all if it is `shared`.
        """

        def one(params: State, buffers: State, batch: Any, numbers: State, masks: Sequence[Tensor]) -> Any:
            xb, yb = batch
            with Stacking(masks):
                pred = functional_call(self.model, {**params, **buffers}, (xb,))
            loss = self.forward.loss(pred, yb, **numbers)
            if isinstance(loss, tuple):
                loss = torch.stack([loss[0], torch.as_tensor(loss[1], dtype=loss[0].dtype, device=loss[0].device)])
                return pred, loss, loss[0] / loss[1]
            return pred, loss, mean(loss)

        in_dims = (0, 0, None if shared else 0, 0, 0)
        found: tuple[Nested, Any, Tensor] = vmap(one, in_dims=in_dims)(params, buffers, batch, dict(numbers), list(masks))
        return found


def drawn(masks: Sequence[Mask]) -> Iterator[Tensor]:
    """Draw from torch's generators what the dropouts of one call draw, as factors."""
    for func, ones, p in masks:
        yield func(ones, p, training=True)
