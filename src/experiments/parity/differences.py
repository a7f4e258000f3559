"""Compare one step of two trainings: what differs, and by how much it may.

What is allowed, with a tolerance t (1e-5 by default):

- a batch and a loss, t times its largest value, or t where that is below one;
- a gradient, as the optimiser gets it, t times its tensor's largest, and the rounding (four times float32's eps) of
  the largest so far: once a model is certain, 1 - p is all rounding, and its gradient as small;
- a weight after the update, t times its tensor's largest update, and the rounding of the weight itself, so that a
  learning rate that is off by 1e-4 of itself shows at once;
- a mean at the end as a loss; a metric, which counts rows, by one row more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.config.language import ENGLISH, Language, Phrase
from experiments.parity.matching import Matching

TOLERANCE = 1e-5
ROUNDINGS = 4
WORDS = {
    "stream": "random stream {name}",
    "batch": "batch {name}",
    "gradient": "gradient of {name}",
    "weight": "weight {name}",
}


@dataclass(frozen=True)
class Step:
    """What a training step did, on the CPU.

    Args:
        x: the batch, flat rows.
        y: its targets.
        loss: before the update, ().
        gradients: by parameter, as the optimiser got them.
        weights: parameters and buffers after the update.
    """

    x: Tensor
    y: Tensor
    loss: Tensor
    gradients: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class Comparison:
    """One tensor of both trainings, and its allowed difference.

    Args:
        kind: batch, loss, gradient, weight or figure.
        name: of the tensor, in the first.
        a: the first's.
        b: the second's, in the first's layout.
        allowed: for each element or for all.
    """

    kind: str
    name: str
    a: Tensor
    b: Tensor
    allowed: Tensor

    def same_bits(self) -> bool:
        """Whether they are equal, including the signs of zeros."""
        if self.a.shape != self.b.shape or self.a.dtype != self.b.dtype:
            return False
        return torch.equal(_bits(self.a), _bits(self.b))

    def difference(self, step: int) -> Difference:
        """Return the largest difference, relative to what is allowed there."""
        if self.a.shape != self.b.shape:
            shapes = Phrase("their shapes are {a} and {b}", a=tuple(self.a.shape), b=tuple(self.b.shape))
            return infinite(self.kind, self.name, step, shapes)
        a, b = self.a.double(), self.b.double()
        apart = torch.where(a == b, 0.0, (a - b).abs().nan_to_num(nan=math.inf))
        share = torch.where(apart == 0, 0.0, apart / self.allowed).flatten()
        worst = int(share.argmax())
        index = [int(i) for i in torch.unravel_index(torch.tensor(worst), a.shape)] if a.ndim else []
        # Nine digits identify a float32; losses are printed in full.
        digits = "" if self.kind in ("loss", "figure") else ".9g"
        one, other = (f"{tensor.flatten()[worst].item():{digits}}" for tensor in (a, b))
        detail = Phrase("{a} and {b} at {index}" if index else "{a} and {b}", a=one, b=other, index=index)
        return Difference(self.kind, self.name, step, apart.flatten()[worst].item(), share[worst].item(), detail)


@dataclass(frozen=True)
class Difference:
    """The difference of two trainings in one tensor.

    Args:
        kind: parameters, stream, batch, loss, gradient, weight or figure.
        name: of the tensor.
        step: of the training; their number for a figure, None before the first.
        value: the difference at the worst place.
        share: of what is allowed there; beyond 1 they differ.
        detail: the two values and the place.
    """

    kind: str
    name: str
    step: int | None
    value: float
    share: float
    detail: str

    @property
    def where(self) -> str:
        """The tensor in words."""
        return self.named(ENGLISH)

    def named(self, say: Language) -> str:
        """Return the tensor in words, in a language."""
        return say(WORDS.get(self.kind, "{name}"), name=self.name)


def infinite(kind: str, name: str, step: int | None, detail: str) -> Difference:
    """Return a difference that no number measures, which is never allowed."""
    return Difference(kind, name, step, math.inf, math.inf, detail)


def differing(comparisons: Iterable[Comparison], step: int) -> Iterator[Difference]:
    """Yield the difference of each tensor that is not the same to the last bit."""
    return (comparison.difference(step) for comparison in comparisons if not comparison.same_bits())


def worst(differences: Iterable[Difference]) -> Difference | None:
    """Return the first difference beyond what is allowed, else the largest relative to it, if any."""
    largest: Difference | None = None
    for difference in differences:
        if difference.share > 1:
            return difference
        if largest is None or difference.share > largest.share:
            largest = difference
    return largest


class Comparer:
    """Compares step after step of two trainings.

    Args:
        weights: the first's, before its first step.
        matching: of their tensors.
        tolerance: t above.
    """

    def __init__(self, weights: Mapping[str, Tensor], matching: Matching, tolerance: float) -> None:
        self.before, self.matching, self.tolerance = weights, matching, tolerance
        self.steepest = 0.0  # the largest gradient so far

    def step(self, a: Step, b: Step) -> Iterator[Comparison]:
        """Compare all tensors of a step, in the order in which they are computed."""
        before, self.before = self.before, a.weights
        self.steepest = max(self.steepest, *(_largest(gradient).item() for gradient in a.gradients.values()), 0.0)
        for name, one, other in (("x", a.x, b.x), ("y", a.y, b.y)):
            yield Comparison("batch", name, one, other, self.tolerance * _largest(one).clamp(min=1))
        yield Comparison("loss", "loss", a.loss, b.loss, self.tolerance * _largest(a.loss).clamp(min=1))
        yield from self._gradients(a, b)
        for name, other in self.matching.to_a(b.weights).items():
            one, old = a.weights[name], before[name].double()
            rounding = ROUNDINGS * _eps(one) * torch.maximum(one.double().abs(), old.abs())
            allowed = self.tolerance * _largest(one.double() - old) + rounding
            yield Comparison("weight", name, one, other, allowed)

    def _gradients(self, a: Step, b: Step) -> Iterator[Comparison]:
        theirs = self.matching.to_a(b.gradients)
        for pair in self.matching.pairs:
            if pair.a not in a.gradients and pair.a not in theirs:
                continue  # a buffer
            shaped = a.gradients[pair.a] if pair.a in a.gradients else theirs[pair.a]
            # A missing gradient counts as zero; an optimiser that treats them differently shows in the weights.
            one = a.gradients.get(pair.a, torch.zeros_like(shaped))
            other = theirs.get(pair.a, torch.zeros_like(shaped))
            allowed = self.tolerance * _largest(one) + ROUNDINGS * _eps(one) * self.steepest
            yield Comparison("gradient", pair.a, one, other, allowed)


def means(a: Mapping[str, float], b: Mapping[str, float], rows: int, tolerance: float) -> Iterator[Comparison]:
    """Compare the means over an epoch's rows and over the validation rows, where both have them."""
    for name in [name for name in a if name in b]:
        one, other = (torch.tensor(value, dtype=torch.float64) for value in (a[name], b[name]))
        # Rounding may decide a row whose two best classes are nearly equal.
        extra = 0.0 if name.endswith("/loss") else 1 / rows
        yield Comparison("figure", name, one, other, tolerance * one.abs().clamp(min=1) + extra)


def _largest(tensor: Tensor) -> Tensor:
    return tensor.double().abs().max() if tensor.numel() else torch.zeros((), dtype=torch.float64)


def _eps(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)
