"""The metrics of a run as its configuration names them, and the check that they are what they are registered as."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from experiments.config.registry import register
from experiments.config.root import RootConfig
from experiments.data import nested
from experiments.data.batches import Batches
from experiments.data.nested import Nested
from experiments.data.splits import DataSpec
from experiments.data.tensors import IGNORED
from experiments.errors import ConfigError, Fault
from experiments.seeds import fixed_noise
from experiments.training import describe, one_batch, protocols
from experiments.training.distributed.group import Group
from experiments.training.meters import Metric, OverPass, as_number
from experiments.training.step import Forward

log = logging.getLogger(__name__)

# How far two halves may be from the whole, of its size: predictions may have 16 bits.
ROUNDING = 0.01
NOTHING = 1e-7  # a row's part of a sum whose terms cancel
Metrics = Mapping[str, Metric | OverPass]
SUMMED = 'return a sum, which is divided by the rows, or register it with over="pass", which passes all rows at once'
MISFITS = (RuntimeError, ValueError, IndexError, TypeError, AttributeError, KeyError)


class Collected:
    """A function of all predictions and targets of a pass, which are kept on the CPU until its end.

    Args:
        function: (pred, target) -> number.
        gather: returns what all processes that train together pass; None for one process.
    """

    def __init__(self, function: Callable[[Nested, Nested], Any], gather: Callable[[Any], list[Any]] | None) -> None:
        self.function, self.gather = function, gather
        self.batches: list[tuple[Nested, Nested]] = []

    def update(self, pred: Nested, target: Nested) -> None:
        """Keep a batch; this waits for the device."""
        self.batches.append(nested.apply(lambda tensor: tensor.to("cpu", copy=True), (pred, target)))

    def compute(self) -> Any:
        """Return the function's value of all rows, in the order of the batches."""
        shares = self.gather(self.batches) if self.gather else [self.batches]
        batches = [share for batch in itertools.zip_longest(*shares) for share in batch if share is not None]
        return self.function(*nested.apply(lambda *parts: torch.cat(parts), *batches))

    def state_dict(self) -> dict[str, Any]:
        """Return the batches so far."""
        return {"batches": self.batches}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state_dict()."""
        self.batches = list(state["batches"])


class ShareOfPlaces:
    """A metric that sums over labels (n, places ...), divided by how many there are: those left out do not count."""

    def __init__(self, metric: Metric, all_reduce: Callable[[Sequence[float]], list[float]]) -> None:
        self.metric, self.all_reduce = metric, all_reduce
        self.sums: list[Tensor] = []  # of each batch, with its labels

    def update(self, pred: Tensor, target: Tensor) -> None:
        """Add a batch."""
        known = (target != IGNORED).sum()
        value = torch.as_tensor(self.metric(pred, target), device=known.device)
        self.sums.append(torch.stack([value.float(), known.float()]))

    def compute(self) -> float:
        """Return the share."""
        total, known = self.all_reduce(torch.stack([one.cpu() for one in self.sums]).double().sum(0).tolist())
        return total / known if known else math.nan

    def state_dict(self) -> dict[str, Any]:
        """Return the sums so far."""
        return {"sums": self.sums}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state_dict()."""
        self.sums = list(state["sums"])


def made(root: RootConfig, spec: DataSpec, device: torch.device, group: Group | None) -> Metrics:
    """Return the metrics by name."""
    found: dict[str, Metric | OverPass] = {}
    for name, given in root.metrics.items():
        component, bound = register.metric.get(name), register.metric.bind(name, given)
        passed = register.metric.passed_to(component)
        if component.metadata.get("over") != "pass":
            of_places = component.metadata.get("targets") == "classes" and spec.places
            share = functools.partial(ShareOfPlaces, bound, group.all_reduce if group else list)
            found[name] = OverPass(share) if of_places else bound
        elif passed == register.metric.takes:
            found[name] = OverPass(functools.partial(Collected, bound, group.gather if group else None))
        else:
            make = functools.partial(bound, spec) if passed else bound
            found[name] = OverPass(functools.partial(_placed, name, make, device, alone=group is None))
    return found


def require(metrics: Metrics, pred: Nested, target: Nested, forward: Forward, valid: Batches) -> None:
    """Check by the first validation batch that metrics are numbers, and those that are not over a pass sums over rows.

    Raises:
        ConfigError: one is not.
    """
    given = f"predictions {describe.shape(pred)}, targets {describe.shape(target)}"
    for name, metric in metrics.items():
        key, problem = f"metrics.{name}", f"{name} cannot take {given}"
        with torch.no_grad(), one_batch.refused(key, problem, MISFITS):
            if isinstance(metric, OverPass):
                value, expected = _over(metric.start(), pred, target, forward, valid), "a number"
            else:
                value, expected = metric(pred, target), "a scalar sum over rows"
            if as_number(value) is None:
                raise ConfigError(Fault(key, f"{name} returned {describe.kind(value)}; expected {expected}"))
            if not isinstance(metric, OverPass):
                _require_sum(metric, name, pred, target)


def _placed(name: str, make: Callable[[], Any], device: torch.device, *, alone: bool) -> Any:
    """Return an object that is updated with each batch, its state on the device."""
    with fixed_noise():
        metric = make()
    if hasattr(metric, "persistent"):  # torchmetrics leaves the rest out of its state_dict()
        metric.persistent(mode=True)
        # Which it says of one that is resumed after its last batch.
        warnings.filterwarnings("ignore", r"The ``compute`` method of metric \w+ was called before")
    if hasattr(metric, "to"):
        metric.to(device)
    protocols.require_states({f"metrics.{name}": metric})
    if not alone and not getattr(metric, "sync_on_compute", False):
        problem = f"{name} has no sync_on_compute, so its states cannot be added over several processes"
        raise ConfigError(Fault(f"metrics.{name}", f"{problem}; use torchmetrics, or a function (pred, target)"))
    return metric


def _over(running: Any, pred: Nested, target: Nested, forward: Forward, valid: Batches) -> Any:
    """Return the value of one batch; of all, where one is too few: it may have one class only."""
    running.update(pred, target)
    with contextlib.suppress(*MISFITS):
        return running.compute()
    for batch in itertools.islice(valid.epoch(0), 1, None):
        xb, yb = forward.moved(batch)
        running.update(forward.predict(xb), yb)
    return running.compute()


def _require_sum(metric: Metric, name: str, pred: Nested, target: Nested) -> None:
    """Check that the metric of a batch is the sum of those of its halves; where all are 0, it may be."""
    rows = nested.rows(target)
    cuts = [slice(0, rows), slice(0, rows // 2), slice(rows // 2, rows)]
    parts = [nested.apply(operator.itemgetter(cut), (pred, target)) for cut in cuts if rows > 1]
    whole, one, other = [float(metric(*part)) for part in parts] or [0.0] * 3
    size = max(abs(whole), abs(one) + abs(other))
    if size == 0 and rows > 1 and not register.metric.get(name).factory.__module__.startswith("experiments."):
        log.warning("metric %s is 0 for the first rows; whether it is a sum over rows is not known: %s", name, SUMMED)
    if math.isfinite(size) and abs(whole - one - other) > max(ROUNDING * size, NOTHING * rows):
        problem = (
            f"{name} is not a sum over rows: {whole:.4g} for {rows} rows, but {one:.4g} and {other:.4g} for halves"
        )
        raise ConfigError(Fault(f"metrics.{name}", f"{problem}; {SUMMED}"))
