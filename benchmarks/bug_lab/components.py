"""A dataset, three models, a loss and an optimiser, each with the faults that can be planted in it."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's own documentation uses

import experiments

TRAIN = 1400


@experiments.register.dataset("lab")
def lab(*, fault: str = "", kind: str = "labels") -> dict[str, Any]:
    """Return the 1,797 digits of 8x8 in a fixed random order, with a fault, or with other targets."""
    found, generator = load_digits(), torch.Generator().manual_seed(0)
    order = torch.randperm(len(found.target), generator=generator)
    x = torch.from_numpy(found.images).float()[order, None] / 16
    y = torch.from_numpy(found.target).long()[order]
    if fault == "sorted":
        first = y[:TRAIN].argsort(stable=True)
        x[:TRAIN], y[:TRAIN] = x[first], y[first]
    elif fault == "permuted":
        y = y[torch.randperm(len(y), generator=generator)]
    elif fault == "pixels":
        x = 255 * x
    elif fault == "duplicates":
        x[TRAIN : TRAIN + 200], y[TRAIN : TRAIN + 200] = x[:200].clone(), y[:200].clone()
    elif fault == "off_by_one":
        y = y + 1
    elif fault == "one_hot":
        y = F.one_hot(y).float()
    elif fault == "drift":
        x[TRAIN:] = 1 - x[TRAIN:]
    more: dict[str, Any] = {"shape": (1, 8, 8)}
    if kind == "tokens":  # whether a half of the rows has fewer dark places
        x, more = (
            (4 * x[:, 0, 2:6].flatten(1)).long().clamp_max(3),
            {"shape": (32,), "extra": {"vocabulary": 4}},
        )
        dark = (x == 0).sum(1)
        y = (dark > dark.median()).long()
    elif kind == "masks":  # the bright pixels
        y, more["classes"] = (x[:, 0] > 0.5).long(), 2
    elif kind == "several":  # which quarters are bright
        y = (F.avg_pool2d(x, 4).flatten(1) > 0.3).float()
    elif kind == "reals":  # how bright a quarter is
        y = F.avg_pool2d(x, 4).flatten(1)
    return {"train": (x[:TRAIN], y[:TRAIN]), "valid": (x[TRAIN:], y[TRAIN:]), **more}


class Lab(nn.Module):
    """A body and a last layer, with a fault between, before or after them."""

    def __init__(self, body: nn.Sequential, features: int, outputs: int, fault: str) -> None:
        super().__init__()
        self.fault, self.body, self.head = fault, body, nn.Linear(features, outputs)
        self.running = torch.zeros(features)
        if fault == "dead":
            for layer in body:
                if isinstance(layer, nn.Linear | nn.Conv2d | nn.BatchNorm2d) and layer.bias is not None:
                    nn.init.constant_(layer.bias, -20.0)
        if fault == "frozen":
            body.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of rows (n, 1, 8, 8)."""
        if self.fault == "reshape":  # rows and pixels are exchanged
            x = x.reshape(x.shape[0], -1).T.reshape(x.shape)
        if self.fault == "blind":
            x = 0 * x
        hidden = self.body(x)
        if self.fault == "detached":
            hidden = hidden.detach()
        elif self.fault == "dropout":
            hidden = F.dropout(hidden, 0.95, self.training)
        elif self.fault == "noise":
            hidden = F.dropout(hidden, 0.5)
        elif self.fault == "unsaved":
            self.running = 0.9 * self.running + 0.1 * hidden.detach().mean(0)
            hidden = hidden - self.running
        out: Tensor = self.head(hidden)
        softmax = {"softmax": 1, "softmax_rows": 0}.get(self.fault)
        return out if softmax is None else out.softmax(softmax)

    def train(self, mode: bool = True) -> Lab:
        """Set the mode, or with that fault always the same."""
        return super().train(True if self.fault == "training" else mode)


@experiments.register.model("lab_mlp")
def lab_mlp(data: experiments.DataSpec, *, fault: str = "", p: float = 0.1) -> nn.Module:
    """Return two hidden layers with dropout."""
    drop = 0.95 if fault == "dropout_layer" else p
    layers = [nn.Flatten(), nn.Linear(data.features, 64), nn.ReLU(), nn.Dropout(drop), nn.Linear(64, 64), nn.ReLU()]
    return Lab(nn.Sequential(*layers), 64, data.outputs, fault)


@experiments.register.model("lab_cnn")
def lab_cnn(data: experiments.DataSpec, *, fault: str = "", p: float = 0.1) -> nn.Module:
    """Return two convolutions with dropout."""
    drop = 0.95 if fault == "dropout_layer" else p
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    return Lab(nn.Sequential(*layers, nn.Flatten(), nn.Dropout(drop)), 512, data.outputs, fault)


@experiments.register.model("lab_norm")
def lab_norm(data: experiments.DataSpec, *, fault: str = "", p: float = 0.1) -> nn.Module:
    """Return two convolutions with batch norm and dropout."""
    drop = 0.95 if fault == "dropout_layer" else p
    one = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    two = [nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return Lab(nn.Sequential(*one, *two, nn.Dropout(drop)), 128, data.outputs, fault)


@experiments.register.loss("lab_sum")
def lab_sum(pred: Tensor, target: Tensor) -> Tensor:
    """Return the sum over the batch, where the mean is meant."""
    return F.cross_entropy(pred, target, reduction="sum")


@experiments.register.metric("lab_mean", targets="classes")
def lab_mean(pred: Tensor, target: Tensor) -> Tensor:
    """Return a batch's accuracy, where the number of right rows is meant."""
    return (pred.argmax(1) == target).float().mean()


class Kept(torch.optim.SGD):
    """An optimiser whose gradients are never cleared."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Leaves them."""


@experiments.register.optim("lab_kept")
def lab_kept(params: Any, *, lr: float = 0.05, momentum: float = 0.9) -> torch.optim.Optimizer:
    """Return it."""
    return Kept(params, lr=lr, momentum=momentum)
