"""What a search chose, kept on disk as it is chosen, and chosen again when the search goes on.

Imported only by a search, since it takes Optuna.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution, LogUniformDistribution, UniformDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from experiments.config import secrets

DIGITS = 4


class Remembering(BaseSampler):
    """A sampler that keeps what another one chooses; a trial that is known already has what it had.

    The other is asked for known trials too, so that its random numbers stand where they would have stood.

    Args:
        sampler: the one that chooses.
        path: where it is kept, a line a value.
    """

    def __init__(self, sampler: BaseSampler, path: Path) -> None:
        self.sampler, self.path = sampler, path
        lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
        # A last line that a dying process left half written is cut off, and its value chosen anew.
        whole = "".join(f"{line}\n" for line in lines[:-1])
        if lines and lines[-1]:
            path.write_text(whole, encoding="utf-8")
        kept = [json.loads(line) for line in whole.splitlines()]
        # What is secret was not kept, and is chosen anew.
        self.known = {(one["trial"], one["key"]): one["value"] for one in kept if secrets.HIDDEN not in str(one)}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As the other sampler has it."""
        return dict(self.sampler.infer_relative_search_space(study, trial))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of several keys that hang together."""
        found = self.sampler.sample_relative(study, trial, search_space)
        return {key: self._kept(trial, key, value, search_space[key]) for key, value in found.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one key."""
        value = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return self._kept(trial, param_name, value, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Let the other sampler learn from a trial."""
        self.sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """As the other sampler does."""
        self.sampler.reseed_rng()

    def _kept(self, trial: FrozenTrial, key: str, value: Any, distribution: BaseDistribution) -> Any:
        if (trial.number, key) not in self.known:
            self.known[trial.number, key] = value = _short(value, distribution)
            line = json.dumps({"trial": trial.number, "key": key, "value": secrets.masked_deep(value)})
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        return self.known[trial.number, key]


def _short(value: Any, distribution: BaseDistribution) -> Any:
    """A number of an interval in four digits, which can be read in a table and typed again."""
    if not isinstance(distribution, UniformDistribution | LogUniformDistribution):
        return value
    rounded = float(f"{value:.{DIGITS}g}")
    return rounded if distribution.low <= rounded < distribution.high else value
