"""A custom dataset: a map-style PyTorch Dataset, as in any project.

    EXPERIMENTS_COMPONENTS=examples/my_dataset.py python -m experiments dataset=stripes model=cnn_adaptive

The default loader reads every item once and keeps it; `loader=dataloader` reads each item from the Dataset every time.
"""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor
from torch.utils.data import Dataset

import experiments


class Stripes(Dataset[tuple[Tensor, int]]):
    """Noisy images of 20x30 with horizontal (0), vertical (1) or diagonal (2) stripes."""

    def __init__(self, size: int, *, seed: int, noise: float) -> None:
        self.size, self.seed, self.noise = size, seed, noise

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_000 + index)
        label = index % 3
        rows, columns = torch.meshgrid(torch.arange(20), torch.arange(30), indexing="ij")
        phase = {0: rows, 1: columns, 2: rows + columns}[label]
        picture = torch.sin(phase + 6 * torch.rand(1, generator=generator))
        return picture + self.noise * torch.randn(20, 30, generator=generator), label


@experiments.register.dataset("stripes")
def stripes(*, size: Annotated[int, Ge(3)] = 900, noise: float = 0.5) -> dict[str, Any]:
    """Return the arguments of `experiments.Splits.of`: the splits, and metadata that need not be counted."""
    train, valid = Stripes(size, seed=0, noise=noise), Stripes(size // 3, seed=1, noise=noise)
    return {"train": train, "valid": valid, "classes": 3, "labels": ["horizontal", "vertical", "diagonal"]}
