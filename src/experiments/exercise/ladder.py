"""Climb from the first step on until a learner's training differs from the stage's; the first difference is told."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import zip_longest

import torch
from torch import Tensor

from experiments.config.language import Phrase
from experiments.exercise.tracing import Epoch, Step, Trace
from experiments.parity.matching import Matching, match

# Other sums of the same numbers differ by 1e-7 a step; a wrong answer by 1e-3 and more.
TOLERANCE = 1e-4

HINTS = {
    "runs": "Read the line that is named; Python stopped there.",
    "parameters": "Compare the shapes with those of the stage; parameters() finds what nn.Module knows of.",
    "start": "The weights before the first step are others: how are they initialised, and in which order?",
    "rows": "Print the first rows of a batch: are they those that should come, in the right shape and scale?",
    "forward": "The weights and the rows are right: what is computed from them, up to the loss, is not.",
    "gradient": "The loss is right, its gradient not: is each parameter used, the graph whole, no old gradient left?",
    "update": "The gradient is right, the weights after it are not: look at the optimiser and its numbers.",
    "device": "`to` does not change a tensor, it returns the moved one.",
    "steps": "How many batches has an epoch, with the last, smaller one?",
    "mean": "The weights are right: how are the batches' losses added, and what is the sum divided by?",
    "mode": "model.train() before training, model.eval() before validation.",
    "no_grad": "Validation needs no gradients: with torch.no_grad().",
    "validation": "The weights are right: which rows are validated, and how is the mean taken?",
}


def climb(right: Trace, given: Trace) -> tuple[str, Phrase] | None:
    """Return the rung where a learner's trace leaves the stage's, with numbers; None if it does nowhere."""
    if given.error:
        where = Phrase("it does not run: line {line}: {error}", line=given.line, error=given.error)
        return "runs", where if given.line else Phrase("it does not run: {error}", error=given.error)
    if not given.steps:
        return "runs", Phrase("nothing was trained: loss.backward() was never called, or there is no `model`")
    matching = match(right.steps[0].weights, given.steps[0].weights)
    if not matching.complete:
        none = Phrase("none")
        names = {"expected": ", ".join(matching.only_a) or none, "found": ", ".join(matching.only_b) or none}
        return "parameters", Phrase("other parameters: {expected} expected, {found} found", **names)
    for number, (one, other) in enumerate(zip(right.steps, given.steps, strict=False)):
        if found := next(_step(number, one, other, matching), None):
            short = found[0] == "rows" and number > 0 and _counts(right) != _counts(given)
            return ("steps", _steps(right, given)) if short else found
    if len(right.steps) != len(given.steps):
        return "steps", _steps(right, given)
    for number, epochs in enumerate(zip_longest(right.epochs, given.epochs)):
        if found := next(_epoch(number, *epochs), None):
            return found
    return None


def _counts(trace: Trace) -> list[int]:
    return [epoch.steps for epoch in trace.epochs]


def _steps(right: Trace, given: Trace) -> Phrase:
    counts = {"found": len(given.steps), "expected": len(right.steps)}
    return Phrase("{found} steps were taken, {expected} expected", **counts)


def _step(number: int, right: Step, given: Step, matching: Matching) -> Iterator[tuple[str, Phrase]]:
    before = "start" if number == 0 else "update"
    text = "step {step}: before it, {name} differs: {apart}"
    for name, apart in _apart(right.weights, given.weights, matching):
        yield before, Phrase(text, step=number, name=name, apart=apart)
    if right.batch is not None and given.batch is not None:
        if right.batch.shape != given.batch.shape:
            shapes = {"found": tuple(given.batch.shape), "expected": tuple(right.batch.shape)}
            yield "rows", Phrase("step {step}: the model gets {found}, {expected} expected", step=number, **shapes)
        elif said := _differs(right.batch, given.batch):
            yield "rows", Phrase("step {step}: the model gets other rows: {apart}", step=number, apart=said)
    if right.moved and not given.moved:
        yield "device", Phrase("step {step}: the model gets a batch that was not moved to the device", step=number)
    if right.moves > given.moves:
        counts = {"found": given.moves, "expected": right.moves}
        yield (
            "device",
            Phrase("step {step}: {found} tensors were moved to the device, {expected} expected", step=number, **counts),
        )
    if not math.isclose(right.loss, given.loss, rel_tol=TOLERANCE, abs_tol=1e-6):
        # Of a model whose input is not seen, the loss is the first sign of other rows.
        rung = "forward" if number == 0 or right.batch is not None else "rows"
        losses = {"found": f"{given.loss:.5f}", "expected": f"{right.loss:.5f}"}
        yield rung, Phrase("step {step}: the loss is {found}, {expected} expected", step=number, **losses)
    text = "step {step}: the gradient of {name} differs: {apart}"
    for name, apart in _apart(right.gradients, given.gradients, matching):
        yield "gradient", Phrase(text, step=number, name=name, apart=apart)


def _epoch(number: int, right: Epoch | None, given: Epoch | None) -> Iterator[tuple[str, Phrase]]:
    if right is None or given is None:
        yield "steps", Phrase("epoch {epoch}: a line is printed too often, or is missing", epoch=number)
        return
    text = "epoch {epoch}: {name} is {found}, {expected} expected"
    if right.steps != given.steps:
        yield "steps", Phrase(text, epoch=number, name="steps", found=given.steps, expected=right.steps)
    if not math.isclose(right.train, given.train, rel_tol=TOLERANCE):
        losses = {"found": f"{given.train:.5f}", "expected": f"{right.train:.5f}"}
        yield "mean", Phrase(text, epoch=number, name="train/loss", **losses)
    if right.training is False and given.training:
        yield "mode", Phrase("epoch {epoch}: the model is validated in training mode", epoch=number)
    if given.graded > right.graded:
        yield "no_grad", Phrase("epoch {epoch}: gradients are computed in validation", epoch=number)
    if not math.isclose(right.valid, given.valid, rel_tol=TOLERANCE):
        losses = {"found": f"{given.valid:.5f}", "expected": f"{right.valid:.5f}"}
        yield "validation", Phrase(text, epoch=number, name="valid/loss", **losses)


def _apart(
    right: Mapping[str, Tensor], given: Mapping[str, Tensor], matching: Matching
) -> Iterator[tuple[str, Phrase]]:
    """Yield the tensors that differ, by the learner's names, and how."""
    for pair in matching.pairs:
        one, other = right.get(pair.a), given.get(pair.b)
        if one is None:
            continue
        if other is None:
            yield pair.b, Phrase("there is none")
        elif said := _differs(pair.turned(one), other):
            yield pair.b, said


def _differs(right: Tensor, given: Tensor) -> Phrase | None:
    """Return where two tensors of one shape differ most; None where they do not."""
    difference = (right.double() - given.double()).abs().nan_to_num(nan=math.inf)
    if float(difference.max()) <= TOLERANCE * float(right.double().abs().max()) + 1e-7:
        return None
    at = int(difference.argmax())
    place = [int(index) for index in torch.unravel_index(torch.tensor(at), right.shape)]
    numbers = {"found": f"{float(given.flatten()[at]):.5g}", "expected": f"{float(right.flatten()[at]):.5g}"}
    return Phrase("{found} at {place}, {expected} expected", place=place, **numbers)
