"""Run two trainings side by side: free, each on its own, or locked, the second on the first's state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from experiments.errors import TrainingError
from experiments.parity.differences import Comparer, Comparison, Difference, Step, figures
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
            parted = next(_different(comparer.step(one, other), number), None)
        farthest = max(farthest, (abs(one.loss.item() - other.loss.item()), number), key=lambda found: found[0])
    if parted is None:
        parted = next(_different(_figures(a, second(steps), tolerance), steps), None)
    return None if parted is None else Drift(parted, *farthest)


def locked(
    a: Trainee, b: Trainee, matching: Matching, *, steps: int, tolerance: float
) -> tuple[Difference | None, bool]:
    """Set the second to the first's state before each step, so that only the step itself is compared.

    It gets the weights, the optimiser's state and the noise, and its optimiser the first's gradients once its own are
    recorded: rounding cannot grow, even within the step (Adam divides by gradients that may be all rounding).

    Returns:
        The first difference beyond what is allowed, else the largest relative to it, if any; and whether the
        optimiser's state could be copied.

    Raises:
        TrainingError: the first's loss or gradient is not finite.
    """
    largest: Difference | None = None
    carried = b.take(a, matching)
    comparer = Comparer(weights_of(a.runner.model), matching, tolerance)
    for number in range(steps):
        b.take_noise(a.noise)
        both = _both(a, b, number, matching)
        if isinstance(both, Difference):
            return both, carried
        for found in _different(comparer.step(*both), number):
            if found.share > 1:
                return found, carried
            largest = _larger(largest, found)
        carried = b.take(a, matching) and carried
    b.take_noise(a.noise)
    for found in _different(_figures(a, b, tolerance), steps):
        if found.share > 1:
            return found, carried
        largest = _larger(largest, found)
    return largest, carried


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
        return Difference("loss", "loss", number, math.inf, math.inf, f"the second configuration: {error}")
    if one is None or other is None:
        over = "first" if one is None else "second"
        return Difference("batch", "x", number, math.inf, math.inf, f"the {over} configuration has no more batches")
    return one, other


def _figures(a: Trainee, b: Trainee, tolerance: float) -> Iterator[Comparison]:
    rows = min(a.runner.progress.sums.rows, len(a.runner.valid.split))
    yield from figures(a.figures(), b.figures(), rows, tolerance)


def _different(comparisons: Iterator[Comparison], number: int) -> Iterator[Difference]:
    return (comparison.difference(number) for comparison in comparisons if not comparison.same_bits())


def _larger(largest: Difference | None, found: Difference) -> Difference:
    return found if largest is None or found.share > largest.share else largest
