"""Judge whether two configurations, or an interrupted and an uninterrupted one, are the same training."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

from experiments.config import check as check_config
from experiments.config.language import Phrase
from experiments.errors import ConfigError, Fault
from experiments.parity.differences import TOLERANCE, Difference, infinite, worst
from experiments.parity.lockstep import free, locked
from experiments.parity.matching import Matching, match
from experiments.parity.stepper import Trainee
from experiments.parity.verdict import Drift, Verdict
from experiments.runs import preparation
from experiments.runs.preparation import Preparation
from experiments.seeds import Seeds
from experiments.training import build
from experiments.training import device as devices
from experiments.training.runner import weights_of

STEPS = 200


def compare(
    a: Sequence[str],
    b: Sequence[str],
    *,
    steps: int = STEPS,
    tolerance: float = TOLERANCE,
    transpose: Sequence[str] = (),
) -> Verdict:
    """Train two configurations from the same weights on the same batches, and compare them step by step.

        experiments.parity.compare(["stage=03_module"], ["stage=04_linear"]).verdict   # 'equal'

    Callbacks are not called, no run starts, and no file is written.

    Args:
        a: overrides of the first, as on the command line; both start from its fresh weights.
        b: of the second.
        steps: the most to compare; a shorter training is compared as a whole.
        tolerance: for `equal`; see `experiments.parity.differences`.
        transpose: names of square matrices that the second has transposed.

    Raises:
        ConfigError: one of them cannot be run, or an argument is wrong.
        DataError: a dataset is unavailable.
        TrainingError: the first's training has to stop.
    """
    check(steps, tolerance)
    build.forget_dataset()
    one, other = prepared(a, b, fresh=True)
    return judge(one, other, steps, tolerance, transpose)


def resumed(overrides: Sequence[str], at: int, *, steps: int = STEPS) -> Verdict:
    """Train a configuration straight, and beside it one that is saved after `at` steps and resumed in a fresh runner.

    At most `steps` are compared, and 1 <= `at` < `steps`. Raises as `compare` does.
    """
    check(steps)
    build.forget_dataset()
    (training,) = prepared(overrides)
    began = time.perf_counter()
    with devices.settings_kept(), tempfile.TemporaryDirectory() as folder:
        straight = Trainee(training)
        seconds = [Trainee(training, Path(folder))]
        notes = _all(steps, straight.total)
        steps = min(steps, straight.total)
        if not 1 <= at < steps:
            raise ConfigError(Fault("--resume-at", f"{at} is not within the steps 1 .. {steps - 1}"))

        def second(number: int) -> Trainee:
            if number == at:
                seconds[0].save(at)
                seconds[0] = _reopened(training, Path(folder), at)
            return seconds[0]

        own = weights_of(straight.runner.model)
        drift = free(straight, second, match(own, own), steps=steps, tolerance=TOLERANCE)
    found = drift.parted if drift else None
    return _timed(began, Verdict("differs" if drift else "identical", steps, 0.0, found, drift, notes=tuple(notes)))


def check(steps: int, tolerance: float = TOLERANCE) -> None:
    """Raise a ConfigError for fewer steps than one, or a tolerance outside 0 .. 1."""
    if steps < 1:
        raise ConfigError(Fault("--steps", f"{steps} is not allowed: it should be at least 1"))
    if not 0 <= tolerance < 1:
        raise ConfigError(Fault("--tolerance", f"{tolerance:g} is not allowed: it should be at least 0 and below 1"))


def prepared(*sides: Sequence[str], fresh: bool = False) -> list[Preparation]:
    """Prepare configurations once all are checked, since preparing one may download its data.

    Args:
        sides: the overrides of each.
        fresh: whether to leave out the trained weights that they would start from.

    Raises:
        ConfigError: one of them cannot be run.
        DataError: a dataset is unavailable.
    """
    roots = [check_config.configured(overrides).root for overrides in sides]
    if fresh:
        roots = [root.model_copy(update={"init_from": None}) for root in roots]
    found = []
    for root, overrides in zip(roots, sides, strict=True):
        with devices.settings_kept():
            found.append(preparation.prepare(root, overrides))
    return found


def judge(a: Preparation, b: Preparation, steps: int, tolerance: float, transpose: Sequence[str] = ()) -> Verdict:
    """Return the verdict on two prepared configurations."""
    began = time.perf_counter()
    with devices.settings_kept():
        one, other, matching = _pair(a, b, transpose)
        verdict = Verdict("identical", 0, tolerance, matching=() if matching.plain else _words(matching))
        if not matching.complete:
            found = infinite("parameters", "parameters", None, _unmatched(matching))
            return _timed(began, replace(verdict, verdict="differs", found=found))
        longest = max(one.total, other.total)
        notes = _all(steps, longest)
        steps = min(steps, longest)
        drift = free(one, lambda _: other, matching, steps=steps, tolerance=tolerance)
        verdict = replace(verdict, steps=steps, drift=drift)
        if streams := list(_streams(a, b, min(steps, one.total))):
            verdict = replace(verdict, verdict="differs", found=streams[0])
            text = "{name} differs as well, from step {number} on"
            notes += [Phrase(text, name=each.name, number=each.step) for each in streams[1:]]
        elif drift is not None:
            one, other, matching = _pair(a, b, transpose)
            largest = worst(locked(one, other, matching, steps=steps, tolerance=tolerance))
            beyond = largest is not None and largest.share > 1
            verdict = replace(verdict, verdict="differs" if beyond else "equal", found=largest)
            notes += _notes(a, b, other.has_others_memory)
    return _timed(began, replace(verdict, notes=tuple(notes)))


def _all(wanted: int, longest: int) -> list[str]:
    return ["the training has no more steps"] if longest < wanted else []


def _streams(a: Preparation, b: Preparation, steps: int) -> Iterator[Difference]:
    """Yield the random streams that differ: the first, with the second's number for one of them, trains otherwise.

    The rest of the judgement cannot see them all: both start from the first's weights, and may share its noise.
    """
    for name in [stream.name for stream in fields(Seeds)]:
        mine, theirs = getattr(a.seeds, name), getattr(b.seeds, name)
        if mine != theirs and (drift := _reseeded(a, replace(a.seeds, **{name: theirs}), steps)):
            yield infinite("stream", f"seeds.{name}", drift.parted.step, Phrase("{a} and {b}", a=mine, b=theirs))


def _reseeded(training: Preparation, seeds: Seeds, steps: int) -> Drift | None:
    one, other = Trainee(training), Trainee(replace(training, seeds=seeds))
    own = weights_of(one.runner.model)
    return free(one, lambda _: other, match(own, own), steps=steps, tolerance=TOLERANCE)


def _notes(a: Preparation, b: Preparation, carried: bool) -> Iterator[str]:
    """Yield what limits a comparison step by step."""
    if not carried:
        yield "the two optimisers remember different things, so each keeps its own memory"
    if a.device.type != b.device.type:
        yield Phrase("an accelerator's noise is its own: dropout differs between {a} and {b}", a=a.device, b=b.device)


def _pair(a: Preparation, b: Preparation, transpose: Sequence[str]) -> tuple[Trainee, Trainee, Matching]:
    """Return both with fresh runners, the second with the first's weights where all tensors match."""
    one = Trainee(a)
    other = Trainee(b)
    matching = match(weights_of(one.runner.model), weights_of(other.runner.model), transpose)
    if matching.complete:
        other.take(one, matching)
    return one, other, matching


def _reopened(prepared: Preparation, folder: Path, done: int) -> Trainee:
    """Return the training saved after `done` steps, in a new runner."""
    trainee = Trainee(prepared, folder)
    assert trainee.runner.checkpoints is not None
    state = trainee.runner.checkpoints.newest()
    if state is None:
        raise ConfigError(Fault("--resume-at", f"no checkpoint could be written to {folder}"))
    trainee.resume(state, done)
    return trainee


def _words(matching: Matching) -> tuple[str, ...]:
    texts = ("{a} = {b}", "{a} = {b} transposed")
    return tuple(Phrase(texts[pair.transposed], a=pair.a, b=pair.b) for pair in matching.pairs)


def _unmatched(matching: Matching) -> str:
    a, b = ", ".join(matching.only_a), ", ".join(matching.only_b)
    both = "only the first has {a}; only the second has {b}"
    return Phrase(both if a and b else "only the first has {a}" if a else "only the second has {b}", a=a, b=b)


def _timed(began: float, verdict: Verdict) -> Verdict:
    return replace(verdict, seconds=time.perf_counter() - began)
