"""The task of all contenders: two models on all of MNIST, 50,000 rows in shuffled batches of 64, 10,000 to validate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset

BATCH_SIZE = 64
VALID_BATCH_SIZE = 128


@dataclass(frozen=True)
class Recipe:
    """A model's name on this package's command line, and the numbers it is trained with.

    Args:
        overrides: of this package.
        shape: of one input.
        lr: SGD's learning rate.
        momentum: SGD's.
        epochs: of one turn, which should take about two seconds. Our uploader sends every two seconds, and this time
            also passes during the turns of others. With shorter turns it would send in every epoch.
        accuracy: the least accuracy of a trained model on the validation rows. (With a rate of 0.5 the last batches of
            an epoch can cost the logistic model some points of its 0.92.)
    """

    overrides: tuple[str, ...]
    shape: tuple[int, ...]
    lr: float
    momentum: float
    epochs: int
    accuracy: float


RECIPES = {
    "logistic": Recipe(("model=logistic", "optim=sgd"), (784,), 0.5, 0.0, 5, 0.80),
    "cnn_adaptive": Recipe(("model=cnn_adaptive", "optim=sgd_momentum"), (1, 28, 28), 0.1, 0.9, 1, 0.85),
}


@dataclass(frozen=True)
class Task:
    """One model's training, as a contender gets it.

    Args:
        model: its name.
        data: a folder with `rows.pt` (see `keep_rows`) and this package's cache of MNIST.
        threads: of torch; None for torch's default.
    """

    model: str
    data: Path
    threads: int | None

    @property
    def recipe(self) -> Recipe:
        """Return the numbers that the model is trained with."""
        return RECIPES[self.model]

    def network(self) -> nn.Module:
        """Build the model in plain torch, with fresh weights."""
        if self.model == "logistic":
            return nn.Linear(784, 10)
        return nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 10, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )

    def sgd(self, network: nn.Module, *, fused: bool | None = None) -> optim.SGD:
        """Build the optimiser, as users normally write it unless `fused` is given."""
        return optim.SGD(network.parameters(), lr=self.recipe.lr, momentum=self.recipe.momentum, fused=fused)

    def stored(self) -> dict[str, Tensor]:
        """Return the rows as they are stored: pixels are bytes, (rows, 784)."""
        rows: dict[str, Tensor] = torch.load(self.data / "rows.pt")
        return rows

    def floats(self) -> dict[str, Tensor]:
        """Return the rows as in the tutorial: pixels are float32 below 1, in the model's shape."""
        rows = self.stored()
        for name in ("x_train", "x_valid"):
            rows[name] = rows[name].float().div_(256).view(-1, *self.recipe.shape)
        return rows

    def datasets(self) -> tuple[TensorDataset, TensorDataset]:
        """Return the training and validation rows, float32."""
        rows = self.floats()
        return TensorDataset(rows["x_train"], rows["y_train"]), TensorDataset(rows["x_valid"], rows["y_valid"])

    def loaders(self) -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
        """Return shuffled training batches, and validation batches."""
        train, valid = self.datasets()
        return DataLoader(train, BATCH_SIZE, shuffle=True), DataLoader(valid, VALID_BATCH_SIZE)


def keep_rows(folder: Path, source: Path | None) -> None:
    """Read MNIST with this package, and write its rows to a folder for every contender."""
    from experiments.components.datasets.mnist import mnist

    splits = mnist(root=str(folder), source=str(source) if source else None)
    parts = {"train": splits.train.tensors, "valid": splits.valid.tensors}
    rows = {f"{name}_{part}": t.clone() for part, pair in parts.items() for name, t in zip("xy", pair, strict=True)}
    torch.save(rows, folder / "rows.pt")
