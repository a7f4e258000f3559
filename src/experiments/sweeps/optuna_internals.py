"""What a search uses of Optuna, and of its plugin for Hydra, which promises nothing.

Read from Optuna 2.10.1 and hydra-optuna-sweeper 1.3.0. Only a search imports this module: the extra may be missing.
"""

from __future__ import annotations

import logging
import warnings

# They log at their import, and repeat the sweep's table.
for name in ("alembic", "hydra_plugins.hydra_optuna_sweeper"):
    logging.getLogger(name).setLevel(logging.WARNING)
with warnings.catch_warnings():  # Optuna 2.10 is older than the SQLAlchemy that MLflow requires
    warnings.simplefilter("ignore")
    import optuna
    from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
    from optuna import samplers
    from optuna.distributions import BaseDistribution, LogUniformDistribution, UniformDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial, TrialState
optuna.logging.set_verbosity(logging.WARNING)

__all__ = [
    "BaseDistribution",
    "FrozenTrial",
    "LogUniformDistribution",
    "OptunaSweeperImpl",
    "Study",
    "TrialState",
    "UniformDistribution",
    "create_params_from_overrides",
    "samplers",
]
