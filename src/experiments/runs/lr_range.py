"""The learning rate range test (Smith, 2015, arXiv:1506.01186, section 3.3): train while the rate grows.

The loss is smoothed by a running mean with Adam's correction of its bias (Kingma and Ba, 2015, section 3):
mean_i = 0.9 mean_{i-1} + 0.1 loss_i from mean_0 = 0; smoothed_i = mean_i / (1 - 0.9^i).
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from experiments import live
from experiments.errors import ConfigError, Fault, TrainingError
from experiments.seeds import noise_state, restore_noise
from experiments.training.losses import mean
from experiments.training.runner import Runner
from experiments.training.step import ClosureStep, EagerStep
from experiments.training.update import Update

KEPT = 0.9  # of the mean, each step
DIVERGED, FALLEN = 4.0, 0.9  # times the best smoothed loss: it ends the test; times the first: it suggests a rate
FEWEST = 10  # steps; the first tenth is smoothed too little for a suggestion


@dataclass(frozen=True)
class Range:
    """A test: the first parameter group's rates, each one's loss before its update, and the smoothed loss.

    `suggested` is the rate of the steepest fall of the smoothed loss over the rate's logarithm, before its minimum;
    None where it does not fall by a tenth. `stopped` is why the test ended before its last rate, else empty.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggested: float | None
    stopped: str


def growing(low: float = 1e-7, high: float = 10.0, steps: int = 100) -> list[float]:
    """Return so many rates, each the same multiple of the one before.

    Raises:
        ConfigError: they are not rates, do not grow, or are too few.
    """
    if not 0 < low < high < math.inf:
        raise ConfigError(Fault("--from, --to", f"{low:g} and {high:g} are given; expected 0 < from < to"))
    if steps < FEWEST:
        raise ConfigError(Fault("--steps", f"{steps} is given; expected at least {FEWEST}"))
    return [float(rate) for rate in np.geomspace(low, high, steps)]


def lr_range(runner: Runner, rates: Sequence[float] | None = None) -> Range:
    """Take a training step at each rate (`growing()`); afterwards the training is as it was before, bit for bit.

    It may be called before the training or between two steps. Batches are those of the current epoch from its start,
    then of later ones. Parameter groups keep their ratio to the first. No scheduler steps and no callback is called.

    Raises:
        ConfigError: the step or the optimiser has no rate that can be set.
        TrainingError: the first loss or gradient is not finite.
    """
    rates, step, groups = rates or growing(), _step(runner), rate_groups(runner.optimizer)
    ratios = [float(group["lr"] / groups[0]["lr"]) for group in groups]
    epochs = range(len(runner.history), len(runner.history) + len(rates))
    batches = (batch for epoch in epochs for batch in islice(runner.train.epoch(epoch), runner.steps))
    losses, smoothed, average, stopped = list[float](), list[float](), 0.0, ""
    with _put_back(runner):
        for rate, (xb, yb) in zip(live.track(rates, "learning rate range test", len(rates)), batches, strict=False):
            for group, ratio in zip(groups, ratios, strict=True):
                group["lr"] = rate * ratio
            try:
                loss = mean(step(runner.moved(xb), runner.moved(yb), len(losses))[2]).item()
                step.update.raise_if_bad()
            except TrainingError as error:
                if not losses:
                    raise
                stopped = str(error)
                break
            losses.append(loss)
            average = KEPT * average + (1 - KEPT) * loss
            smoothed.append(average / (1 - KEPT ** len(losses)))
            if 0 < DIVERGED * min(smoothed) < smoothed[-1]:
                stopped = f"the smoothed loss exceeds {DIVERGED:g} times its best"
                break
    used, skipped, best = tuple(rates[: len(losses)]), len(rates) // FEWEST, int(np.argmin(smoothed))
    falls = best > skipped and smoothed[best] < FALLEN * smoothed[0]
    suggested = used[skipped + int(np.gradient(smoothed, np.log(used))[skipped:best].argmin())] if falls else None
    return Range(used, tuple(losses), tuple(smoothed), suggested, stopped)


def rate_groups(optimizer: Any) -> Sequence[MutableMapping[str, Any]]:
    """Return what holds an optimiser's rates as `lr`: its parameter groups, or its attributes.

    Raises:
        ConfigError: nothing does.
    """
    groups = getattr(optimizer, "param_groups", None) or [getattr(optimizer, "__dict__", {})]
    if any(group.get("lr") is None for group in groups) or not groups[0]["lr"] > 0:
        problem = "has no rate above 0 to test, as `lr` in its param_groups or its attributes"
        raise ConfigError(Fault("optim", f"{type(optimizer).__name__} {problem}"))
    return groups


def _step(runner: Runner) -> EagerStep:
    """Return the runner's step with own copies of the loss, the scaler and the record of bad steps."""
    step, old = runner.step, runner.step.update
    if type(step) not in (EagerStep, ClosureStep):
        problem = "takes no rate from the test; expected step=supervised, device.graph=false and one process"
        raise ConfigError(Fault("step", f"{type(step).__name__} {problem}"))
    scaler, loss = copy.deepcopy((old.scaler, step.forward.loss))
    update = Update(old.params, old.optimizer, steps=runner.steps, max_grad_norm=old.max_grad_norm, scaler=scaler)
    return type(step)(replace(step.forward, loss=loss), update, pause=step.pause, rows_at_once=step.rows_at_once)


@contextlib.contextmanager
def _put_back(runner: Runner) -> Iterator[None]:
    """Train inside; restore weights, optimiser, callbacks, the rows' order and the random streams at the end."""
    parts: list[Any] = [runner.model, runner.optimizer, *runner.callbacks]
    before, noise = copy.deepcopy([part.state_dict() for part in parts]), noise_state(runner.device)
    epoch, training = runner.train.order.epoch, getattr(runner.model, "training", True)
    runner.model.train()
    try:
        yield
    finally:
        runner.step.update.zero_grad()
        for part, state in zip(parts, before, strict=True):
            part.load_state_dict(state)
        (runner.model.train if training else runner.model.eval)()
        runner.train.order.epoch = epoch
        restore_noise(noise, runner.device)
