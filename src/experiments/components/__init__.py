"""The product's own components; importing this package registers them all."""

from experiments.components import (
    callbacks,
    datasets,
    loaders,
    losses,
    metrics,
    models,
    optimizers,
    schedulers,
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
    "transforms",
]
