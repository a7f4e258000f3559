"""Datasets: `(**arguments)` gives Splits, or a mapping of what `Splits.of` takes (train, valid, ...)."""

from experiments.components.datasets import arrays, digits, fashion_mnist, mnist, mnist_5k, synthetic

__all__ = ["arrays", "digits", "fashion_mnist", "mnist", "mnist_5k", "synthetic"]
