"""The comparison script: stage 12's network and momentum as a plain script in the tutorial's style, without tracking.

python benchmarks/plain.py data/mnist/mnist.pkl.gz
"""

import gzip
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # the name that PyTorch's own documentation uses
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset

with gzip.open(sys.argv[1]) as file:
    ((x_train, y_train), (x_valid, y_valid), _) = pickle.load(file, encoding="latin-1")
x_train, y_train, x_valid, y_valid = map(torch.tensor, (x_train, y_train, x_valid, y_valid))

bs, lr, epochs = 64, 0.1, 2


class Lambda(nn.Module):
    """A layer that calls a function."""

    def __init__(self, func: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.func = func

    def forward(self, x: Tensor) -> Tensor:
        """Call it."""
        return self.func(x)


def loss_batch(xb: Tensor, yb: Tensor, opt: optim.Optimizer | None = None) -> tuple[float, int]:
    """Return the loss of a batch and its rows; with an optimiser, take a step."""
    loss = F.cross_entropy(model(xb.view(-1, 1, 28, 28)), yb)
    if opt is not None:
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own is not annotated
        opt.step()
        opt.zero_grad()
    return loss.item(), len(xb)


def fit(train_dl: DataLoader[Any], valid_dl: DataLoader[Any]) -> None:
    """Train, validate and print, epoch by epoch."""
    for epoch in range(epochs):
        model.train()
        for xb, yb in train_dl:
            loss_batch(xb, yb, opt)
        model.eval()
        with torch.no_grad():
            losses, nums = zip(*[loss_batch(xb, yb) for xb, yb in valid_dl], strict=True)
        print(epoch, np.sum(np.multiply(losses, nums)) / np.sum(nums))


model = nn.Sequential(
    nn.Conv2d(1, 16, kernel_size=3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 16, kernel_size=3, stride=2, padding=1),
    nn.ReLU(),
    nn.Conv2d(16, 10, kernel_size=3, stride=2, padding=1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(1),
    Lambda(lambda x: x.view(x.size(0), -1)),
)
opt = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
fit(
    DataLoader(TensorDataset(x_train, y_train), batch_size=bs, shuffle=True),
    DataLoader(TensorDataset(x_valid, y_valid), batch_size=bs * 2),
)
