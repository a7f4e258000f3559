"""The built-in components; importing this package registers all of them."""

from experiments.components import (
    callbacks,
    datasets,
    loaders,
    losses,
    metrics,
    models,
    optimizers,
    schedulers,
    steps,
    transforms,
)

__all__ = [
    "callbacks",
    "datasets",
    "loaders",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "schedulers",
    "steps",
    "transforms",
]
