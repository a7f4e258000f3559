"""The space of a search: Hydra's sweep syntax as Optuna's distributions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from experiments.config.hydra_internals import IntervalSweep, Override, RangeSweep
from experiments.errors import ConfigError, Fault

optuna.logging.set_verbosity(logging.WARNING)

DIGITS = 4


@dataclass(frozen=True)
class Space:
    """The keys that are searched, each with its distribution, and the overrides that all trials share."""

    searched: Mapping[str, BaseDistribution]
    fixed: Sequence[str]

    @classmethod
    def of(cls, overrides: Sequence[Override]) -> Space:
        """Return the space of a command line's overrides.

        Raises:
            ConfigError: nothing is searched, or the values of a key cannot be.
        """
        searched, faults = {}, []
        for override in (one for one in overrides if one.is_sweep_override()):
            try:
                searched[override.get_key_element()] = _distribution(override)
            except ValueError as error:
                problem = f"{override.get_value_string()} cannot be searched: {error}"
                faults.append(Fault(override.get_key_element(), problem))
        if not searched and not faults:
            problem = "there is nothing to search; for example 'optim.lr=tag(log, interval(0.01, 1))'"
            faults.append(Fault("hydra.sweeper.params", problem))
        if faults:
            raise ConfigError(*faults)
        return cls(searched, [str(override.input_line) for override in overrides if not override.is_sweep_override()])

    def extremes(self) -> list[list[str]]:
        """Return trials with each value of a choice and both ends of each interval once, the others at their first."""
        values = {key: _ends(distribution) for key, distribution in self.searched.items()}
        first = {key: found[0] for key, found in values.items()}
        trials = [first, *(first | {key: value} for key, found in values.items() for value in found[1:])]
        return [self.overrides(trial) for trial in trials]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return a trial's overrides."""
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]


def short(value: Any, distribution: BaseDistribution) -> Any:
    """Round a number of an interval to four digits, which can be read in a table and typed again."""
    if not isinstance(distribution, FloatDistribution) or distribution.step is not None:
        return value
    rounded = float(f"{value:.{DIGITS}g}")
    return rounded if distribution.low <= rounded <= distribution.high else value


def _distribution(override: Override) -> BaseDistribution:
    value = override.value()
    log = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        assert low is not None and high is not None
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    if isinstance(value, RangeSweep):
        listed = [float(one) for one in override.sweep_string_iterator()]
        if not listed:
            raise ValueError("it has no values")
        step = value.step if len(listed) > 1 else 1
        if all(one.is_integer() for one in listed) and float(step).is_integer():
            return IntDistribution(int(listed[0]), int(listed[-1]), step=int(step))
        return FloatDistribution(listed[0], listed[-1], step=float(step))
    options = list(override.sweep_string_iterator())
    if not options:
        raise ValueError("it matches no option")
    return CategoricalDistribution(options)


def _ends(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return [distribution.low, distribution.high]
