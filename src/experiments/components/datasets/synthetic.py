"""Images from a random generator: learnable, of any shape and size, for tests and measurements."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge, Len

from experiments.config.registry import register
from experiments.data.splits import Splits

Positive = Annotated[int, Ge(1)]


@register.dataset("synthetic")
def synthetic(
    *,
    shape: Annotated[list[Positive], Len(3, 3)] = [1, 28, 28],  # noqa: B006  # never changed: it is only read
    classes: Annotated[int, Ge(2)] = 10,
    train: Positive = 2000,
    valid: Positive = 500,
    noise: Annotated[float, Ge(0)] = 1.0,
    seed: Annotated[int, Ge(0)] = 0,
) -> Splits:
    """Draw one standard normal image per class, and rows that are one of them plus noise."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((classes, *shape), dtype=np.float32)

    def rows(size: int) -> tuple[np.ndarray, np.ndarray]:
        y = generator.integers(0, classes, size)
        x = generator.standard_normal((size, *shape), dtype=np.float32)
        x *= np.float32(noise)
        x += centres[y]
        return x, y

    return Splits.of(train=rows(train), valid=rows(valid), classes=classes, source=f"numpy generator, seed {seed}")
