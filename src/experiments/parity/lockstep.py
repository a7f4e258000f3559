"""Run two trainings side by side: free, each on its own, or locked, the second on the first's state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from experiments.config.language import Phrase
from experiments.errors import TrainingError
from experiments.parity.differences import Comparer, Comparison, Difference, Step, differing, infinite, means
from experiments.parity.matching import Matching
from experiments.parity.stepper import Trainee
from experiments.parity.verdict import Drift
from experiments.training.runner import weights_of


def free(
    a: Trainee, second: Callable[[int], Trainee], matching: Matching, *, steps: int, tolerance: float
) -> Drift | None:
    """Run each on its own; return how they diverge, or None where every bit is the same.

    Args:
        a: the first.
        second: returns the other for a step.
        matching: of their tensors.
        steps: how many.
        tolerance: relates the difference to what is allowed.

    Raises:
        TrainingError: the first's loss or gradient is not finite.
    """
    parted: Difference | None = None
    farthest = (0.0, 0)
    comparer = Comparer(weights_of(a.runner.model), matching, tolerance)
    for number in range(steps):
        both = _both(a, second(number), number)
        if isinstance(both, Difference):
            return Drift(parted or both, math.inf, number)
        one, other = both
        if parted is None:
            parted = next(differing(comparer.step(one, other), number), None)
        farthest = max(farthest, (abs(one.loss.item() - other.loss.item()), number), key=lambda found: found[0])
    if parted is None:
        parted = next(differing(_means(a, second(steps), tolerance), steps), None)
    return None if parted is None else Drift(parted, *farthest)


def locked(a: Trainee, b: Trainee, matching: Matching, *, steps: int, tolerance: float) -> Iterator[Difference]:
    """Set the second to the first's state before each step, so that only the step itself is compared.

    It gets the weights, the optimiser's state and the noise, and its optimiser the first's gradients once its own are
    recorded: rounding cannot grow, even within the step (Adam divides by gradients that may be all rounding).

    Yields:
        The differences of each step, up to the first where one of the two cannot continue.

    Raises:
        TrainingError: the first's loss or gradient is not finite.
    """
    comparer = Comparer(weights_of(a.runner.model), matching, tolerance)
    for number in range(steps):
        b.take(a, matching)
        b.take_noise(a.noise)
        both = _both(a, b, number, matching)
        if isinstance(both, Difference):
            yield both
            return
        yield from differing(comparer.step(*both), number)
    b.take(a, matching)
    b.take_noise(a.noise)
    yield from differing(_means(a, b, tolerance), steps)


def _both(a: Trainee, b: Trainee, number: int, matching: Matching | None = None) -> tuple[Step, Step] | Difference:
    """Take the next step of both; with a matching, the second's optimiser gets the first's gradients."""
    try:
        one = a.advance()
    except TrainingError as error:
        raise TrainingError(f"the first configuration: {error}") from error
    if matching is not None and one is not None:
        b.given = matching.to_b(one.gradients)
    try:
        other = b.advance()
    except TrainingError as error:
        return infinite("loss", "loss", number, Phrase("the second configuration: {error}", error=error))
    if one is None or other is None:
        texts = ("the first configuration has no more batches", "the second configuration has no more batches")
        return infinite("batch", "x", number, Phrase(texts[one is not None]))
    return one, other


def _means(a: Trainee, b: Trainee, tolerance: float) -> Iterator[Comparison]:
    rows = min(a.runner.progress.sums.rows, len(a.runner.valid.split))
    return means(a.means(), b.means(), rows, tolerance)
