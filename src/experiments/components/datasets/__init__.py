"""Datasets: `(**arguments)` gives Splits, or a mapping of what `Splits.of` takes (train, valid, ...).

Metadata at the registration that pictures of one's own are brought to (see fitting.py): `light_on_dark=True`, and
`centred=20 / 28` for digits whose ink fits that share of the frame and has its centre of mass in the middle.
"""

from experiments.components.datasets import arrays, digits, fashion_mnist, mnist, mnist_5k, synthetic

__all__ = ["arrays", "digits", "fashion_mnist", "mnist", "mnist_5k", "synthetic"]
