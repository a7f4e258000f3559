"""scikit-learn's handwritten digits: 1,797 images of 8x8, values 0 to 16, no network needed."""

from __future__ import annotations

import numpy as np

from experiments.config.registry import register
from experiments.data.splits import Splits
from experiments.data.stratify import stratified


@register.dataset("digits", light_on_dark=True, centred=1.0)
def digits() -> Splits:
    """Return 4/5 for training, 1/5 for validation, each class in the same share; pixels / 16."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)
    train, valid = stratified(y, fraction=0.2, seed=0)
    return Splits.of(
        train=(x[train], y[train]),
        valid=(x[valid], y[valid]),
        classes=10,
        labels=[str(digit) for digit in range(10)],
        source="sklearn.datasets.load_digits",
    )
