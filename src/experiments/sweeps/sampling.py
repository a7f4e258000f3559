"""A sampler whose choices are kept on disk, and repeated when the search resumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.config import secrets
from experiments.sweeps.optuna_internals import (
    BaseDistribution,
    FrozenTrial,
    LogUniformDistribution,
    Study,
    TrialState,
    UniformDistribution,
    samplers,
)

DIGITS = 4


class Remembering(samplers.BaseSampler):
    """A sampler that keeps what another one chooses, and repeats it for a known trial.

    The other is asked for known trials too, so that its random numbers advance as they did.

    The file at `path` holds a choice in each line.
    """

    def __init__(self, sampler: samplers.BaseSampler, path: Path) -> None:
        self.sampler, self.path = sampler, path
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        # A last line that a dying process left half written is cut off, and its value chosen again.
        whole = "".join(f"{line}\n" for line in lines[:-1])
        if lines and lines[-1]:
            path.write_text(whole, encoding="utf-8")
        kept = [json.loads(line) for line in whole.splitlines()]
        # What is secret was not kept, and is chosen again.
        self.known = {(one["trial"], one["key"]): one["value"] for one in kept if secrets.HIDDEN not in str(one)}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Delegate to the other sampler."""
        return dict(self.sampler.infer_relative_search_space(study, trial))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the values of dependent keys."""
        found = self.sampler.sample_relative(study, trial, search_space)
        return {key: self._kept(trial, key, value, search_space[key]) for key, value in found.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of one key."""
        value = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return self._kept(trial, param_name, value, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Let the other sampler learn from a trial."""
        self.sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Delegate to the other sampler."""
        self.sampler.reseed_rng()

    def _kept(self, trial: FrozenTrial, key: str, value: Any, distribution: BaseDistribution) -> Any:
        if (trial.number, key) not in self.known:
            self.known[trial.number, key] = value = _short(value, distribution)
            line = json.dumps({"trial": trial.number, "key": key, "value": secrets.masked_deep(value)})
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        return self.known[trial.number, key]


def _short(value: Any, distribution: BaseDistribution) -> Any:
    """Round a number of an interval to four digits, which can be read in a table and typed again."""
    if not isinstance(distribution, UniformDistribution | LogUniformDistribution):
        return value
    rounded = float(f"{value:.{DIGITS}g}")
    return rounded if distribution.low <= rounded < distribution.high else value
