"""Datasets: `(**arguments)` returns Splits, or a mapping with the arguments of `Splits.of` (train, valid, ...).

A dataset declares at its registration how a user's images must look (see data/preprocess.py): `light_on_dark=True`, and
`centred=20 / 28` for digits whose ink fits that share of the frame and has its centre of mass in the middle; or
`prepare=function`, which makes a row of an image. `places=("cache",)` names arguments that do not change the content.
"""

from experiments.components.datasets import (
    arrays,
    digits,
    fashion_mnist,
    hf,
    image_folder,
    mnist,
    mnist_5k,
    synthetic,
    table,
    text,
)

__all__ = [
    "arrays",
    "digits",
    "fashion_mnist",
    "hf",
    "image_folder",
    "mnist",
    "mnist_5k",
    "synthetic",
    "table",
    "text",
]
