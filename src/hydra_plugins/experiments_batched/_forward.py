"""The forward pass of many models of one architecture as one: `vmap` over stacked parameters, buffers and batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from experiments.components.losses import cross_entropy
from experiments.data import nested
from experiments.data.nested import Nested
from experiments.seeds import noise_kept, noise_state, same_noise
from experiments.training.cuda_graph import WARM_UP, CudaCapture
from experiments.training.losses import mean
from experiments.training.step import Forward
from hydra_plugins.experiments_batched._dropout import Mask, Recorded, Stacking

State = Mapping[str, Tensor]

CPU = torch.device("cpu")
PLAIN = (bool, int, float, str, bytes, type(None))
IGNORED = -100  # the label of rows that torch's cross-entropy leaves out


class StackedForward:
    """Computes the predictions and losses of stacked models, as `forward` does of one.

    Args:
        forward: of one of the models.
    """

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self.model: nn.Module = forward.model
        self._recorded: dict[Any, list[Mask]] = {}
        self._graphs: dict[Any, Callable[..., Any]] = {}
        loss = forward.loss
        self._cross_entropy = getattr(loss, "func", loss) is cross_entropy and not getattr(loss, "keywords", {})
        # Hooks may do anything with what passes.
        self._pure = not any(part._forward_hooks or part._forward_pre_hooks for part in self.model.modules())

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
        trained: Collection[str] = (),
    ) -> tuple[Nested, Tensor, Tensor, Sequence[Tensor | None]]:
        """Return each model's predictions, what its loss returned, and the mean loss; (models, ...); all detached.

        And the gradients of the mean losses by the `trained` parameters. On a card the next call overwrites these.
        There may be fewer batches, (batches, rows, ...), than models: as many models in a row share each.
        """
        state, names = {**params, **buffers}, [*numbers]

        # Flat, since vmap takes its time with dictionaries.
        def predicted(xb: Nested, *own: Tensor) -> Nested:
            given = dict(zip(state, own, strict=False))
            with Stacking(own[len(state) + len(names) :]):
                pred = functional_call(self.model, given, (xb,))
            for name, buffer in zip(state, own, strict=False):
                if name in buffers and given[name] is not buffer:  # `self.mean = ...` in the model
                    buffer.copy_(given[name].detach())
            return pred

        def one(xb: Nested, yb: Nested, *own: Tensor) -> Any:
            pred = predicted(xb, *own)
            loss = self.forward.loss(pred, yb, **dict(zip(names, own[len(state) :], strict=False)))
            if isinstance(loss, tuple):
                loss = torch.stack([loss[0], torch.as_tensor(loss[1], dtype=loss[0].dtype, device=loss[0].device)])
                return pred, loss, loss[0] / loss[1]
            return pred, loss, mean(loss)

        def call(xb: Nested, yb: Nested, *own: Tensor) -> Any:
            with torch.set_grad_enabled(bool(trained)):
                if self._cross_entropy:
                    pred = spread(predicted, (xb,), own)
                    loss = means = cross_entropies(pred, yb)
                else:
                    pred, loss, means = spread(one, (xb, yb), own)
                leaves = [tensor for name, tensor in zip(state, own, strict=False) if name in trained]
                grads = torch.autograd.grad(means.sum(), leaves, allow_unused=True) if leaves else ()
            return *nested.apply(Tensor.detach, (pred, loss, means)), grads

        given = (*batch, *state.values(), *numbers.values(), *masks)
        key = self.model.training, *(leaf.shape for leaf in nested.leaves(batch))
        if self._pure and key not in self._graphs:
            self._graphs[key] = self._graph(call, given, [*range(2, 2 + len(state))])
        with torch.no_grad():
            found: tuple[Nested, Tensor, Tensor, Sequence[Tensor | None]]
            found = (self._graphs[key] if self._pure else call)(*given)
        return found

    def _graph(self, call: Callable[..., Any], given: Sequence[Nested], state: Sequence[int]) -> Callable[..., Any]:
        """Return the call as a list of torch's operations, backward ones too: a step without autograd, vmap and Python.

        No call is one for a model that does more: that changes its attributes, or draws from Python's or numpy's
        generators. On a card the list is captured; `state` are the arguments that are the same tensors in each call.
        """
        before, kept = (attributes(self.model), noise_state(CPU)), copy.deepcopy(self.model)
        copies = nested.apply(lambda leaf: leaf.detach().clone().requires_grad_(leaf.requires_grad), tuple(given))
        with noise_kept():
            graph = make_fx(call)(*copies)
            self._pure = attributes(self.model) == before[0] and same_noise(noise_state(CPU), before[1])
        if not self._pure:
            self.model = kept  # as it was before this call
            return call
        graph.graph.eliminate_dead_code()
        graph.recompile()
        capture = capture_for(nested.leaves(given)[0].device)
        with torch.no_grad():
            return graph if capture is None else captured(graph, capture, given, state)


def spread(function: Callable[..., Any], batch: Sequence[Nested], own: Sequence[Tensor]) -> Any:
    """Return what a function of a batch and of one model's own tensors returns for all models."""
    batches, models = nested.rows(batch[0]), len(own[0])
    if batches == models:
        return vmap(function)(*batch, *own)
    each = vmap(function, in_dims=(*[None] * len(batch), *[0] * len(own)))
    if batches == 1:
        return each(*nested.apply(lambda leaf: leaf[0], tuple(batch)), *own)
    parts = vmap(each)(*batch, *(tensor.view(batches, -1, *tensor.shape[1:]) for tensor in own))
    return nested.apply(lambda leaf: leaf.flatten(0, 1), parts)


def cross_entropies(pred: Tensor, target: Tensor) -> Tensor:
    """Return each model's mean cross-entropy, by one call for all: under vmap torch's own is twenty operations."""
    models = len(pred)
    target = target.unsqueeze(1).expand(-1, models // len(target), *target.shape[1:]).flatten(0, 2)
    each = F.cross_entropy(pred.flatten(0, 1), target, reduction="none").view(models, -1)
    if target.is_floating_point():
        return each.mean(1)
    return each.sum(1) / (target != IGNORED).view(models, -1).sum(1)


def capture_for(device: torch.device) -> CudaCapture | None:
    """Return what captures work on a device; None where there are no graphs."""
    return CudaCapture(device) if device.type == "cuda" else None


def captured(
    call: Callable[..., Any], capture: CudaCapture, given: Sequence[Nested], state: Sequence[int]
) -> Callable[..., Any]:
    """Return a call as a CUDA graph that reads what it is given from its own memory; the call if it waits for the card.

    Args:
        call: what is captured.
        capture: captures it.
        given: what it may be called with.
        state: which of these are the same tensors in each call.
    """
    read = [value if number in state else nested.apply(Tensor.clone, value) for number, value in enumerate(given)]
    before = [given[number].clone() for number in state]
    written: Any = None

    def once() -> None:
        nonlocal written
        written = call(*read)

    try:
        for _ in range(WARM_UP):
            with capture.aside():
                call(*read)
        replay = capture(once)
    except RuntimeError:
        return call
    finally:  # a batch norm's statistics
        for number, value in zip(state, before, strict=True):
            given[number].copy_(value)

    def replayed(*given: Nested) -> Any:
        for own, value in zip(read, given, strict=True):
            if own is not value:
                nested.apply(Tensor.copy_, own, value)
        replay()
        pred, loss, *used = written
        return *nested.apply(Tensor.clone, (pred, loss)), *used  # those are kept while others are taken

    return replayed


def attributes(model: nn.Module) -> list[Any]:
    """Return a model's plain attributes, how long others are, and which parameters are trained."""
    return [
        (
            name,
            value
            if isinstance(value, PLAIN)
            else (type(value), len(value) if isinstance(value, Sized) and not isinstance(value, Tensor) else 0),
        )
        for module in model.modules()
        for name, value in vars(module).items()
        if name != "training"
    ] + [(name, p.requires_grad) for name, p in model.named_parameters()]
